"""A kept connection that its server closes just then: the request has not run, and goes out again, once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import anyio
import httpx
import pytest

from ollama_router_core import AsyncRouterTransport, RouterTransport

ANSWER = b'{"model":"llama3.1:8b","message":{"content":"hi"},"done":true}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
MANY = 8
"""Chats: more than there may be connections, so that one of them carries two."""
CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hello"}], "stream": False}


class Server:
    """Answers facts, and chats: the second chat on a connection ends it instead, `times` in all."""

    def __init__(self, listening: socket.socket, times: int) -> None:
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.chats = 0
        self.times = times
        self._listening = listening

    def serve(self) -> None:
        """Accept connections until the socket is closed."""
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        before = 0
        with closing(peer), peer.makefile("rb") as lines:
            while line := lines.readline():
                length = 0
                while (field := lines.readline()).strip():
                    name, _, value = field.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                lines.read(length)
                chat = line.startswith(b"POST /api/chat")
                self.chats += chat
                if chat and before and self.times:
                    self.times -= 1
                    return
                before += chat
                peer.sendall(HEAD % len(body := ANSWER if chat else _facts(line)) + body)


def _facts(line: bytes) -> bytes:
    if b"/api/version" in line:
        return b'{"version":"0.32.0"}'
    if b"/api/tags" in line:
        return b'{"models":[{"name":"llama3.1:8b","model":"llama3.1:8b","size":1000,"digest":"ab","details":{}}]}'
    return b'{"models":[],"capabilities":["completion"],"model_info":{},"details":{}}'


@contextmanager
def server(times: int) -> Iterator[Server]:
    """A server on a socket of its own."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        running = Server(listening, times)
        threading.Thread(target=running.serve, daemon=True).start()
        yield running


def _chats(url: str) -> set[int]:
    with httpx.Client(transport=RouterTransport.from_urls([url]), base_url="http://router") as client:
        return {client.post("/api/chat", json=CHAT).status_code for _ in range(MANY)}


async def _chats_async(url: str) -> set[int]:
    transport: Any = AsyncRouterTransport.from_urls([url])
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
        return {(await client.post("/api/chat", json=CHAT)).status_code for _ in range(MANY)}


@pytest.mark.parametrize("driver", ["sync", "asyncio", "trio"])
def test_a_request_on_a_connection_that_just_ended_is_sent_again(driver: str) -> None:
    """The program sees answers alone; the server got one request twice and answered it once."""
    with server(times=1) as running:
        seen = _chats(running.url) if driver == "sync" else anyio.run(_chats_async, running.url, backend=driver)
    assert seen == {200}
    assert running.times == 0
    assert running.chats == MANY + 1
