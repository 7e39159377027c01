"""Each phase of an exchange has a time of its own: connecting, the first byte, silence within an answer.

The numbers of the defaults (3, 300 and 60 seconds) are in the settings; here they are short.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.faulty_ollama import MODEL, STREAM, chunk, entry, faulty_ollama, length_of, whole
from support.pauses import stay_silent
from support.raw_client import RawClient, chat, request_bytes
from support.router import running_router
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio

SHORT = 0.4
PATIENT = 10.0


@contextmanager
def blackhole() -> Iterator[int]:
    """A port whose handshakes are not answered: its backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])
        for filler in fillers:
            filler.close()


async def test_a_server_that_takes_no_connection_is_given_up_after_connect_timeout(tmp_path: Path) -> None:
    """502 after that time, not after the minutes that a first byte may take; the server's name is in the text."""
    with blackhole() as port:
        async with (
            running_router(
                tmp_path,
                {"hole": {"host": "127.0.0.1", "port": port}},
                connect_timeout=SHORT,
                model_config={"explicit_assignments": {MODEL: "hole"}},
            ) as router,
            router.client() as client,
        ):
            started = time.monotonic()
            answer = await client.post("/api/chat", content=chat())
            seconds = time.monotonic() - started
    assert (answer.status_code, answer.headers["x-router-error"]) == (502, "upstream_unreachable")
    assert SHORT * 0.9 <= seconds < PATIENT


async def test_a_server_that_does_not_begin_to_answer_is_given_up_after_request_timeout(tmp_path: Path) -> None:
    """504 once the time for the first byte is over, and the server's connection is closed then."""

    async def silent(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        await peer.at_eof()
        return False

    async with (
        faulty_ollama(silent) as server,
        running_router(tmp_path, {"one": entry(server)}, request_timeout=SHORT) as router,
        router.client() as client,
    ):
        started = time.monotonic()
        answer = await client.post("/api/chat", content=chat())
        seconds = time.monotonic() - started
        (row,) = await router.rows()
    assert (answer.status_code, answer.headers["x-router-error"]) == (504, "upstream_timeout")
    assert SHORT * 0.9 <= seconds < PATIENT
    assert row.status == 504


async def test_a_server_that_falls_silent_is_cut_after_idle_timeout(tmp_path: Path) -> None:
    """What came is with the client, then the error, then a cut: never an end as if complete."""

    async def stalls(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        await peer.send(STREAM, chunk(b'{"message":{"content":"a"}}\n'))
        await peer.at_eof()
        return False

    async with (
        faulty_ollama(stalls) as server,
        running_router(tmp_path, {"one": entry(server)}, idle_timeout=SHORT) as router,
        RawClient.open(router.port) as client,
    ):
        await client.send(request_bytes(router.token, chat()))
        await client.until(b'"a"}}\n')
        began = time.monotonic()
        answer = await client.answer()
        seconds = time.monotonic() - began
        (row,) = await router.rows()
    assert SHORT * 0.8 <= seconds < PATIENT
    assert not answer.complete
    assert b'{"error":' in answer.body
    assert row.error_code == "upstream_timeout"


async def test_neither_the_first_byte_nor_the_whole_is_held_to_the_idle_time(tmp_path: Path) -> None:
    """Loading a model takes longer than silence may; an answer may take longer than either, while something comes."""

    async def slow(peer: Peer, head: bytes) -> None:
        await peer.body(length_of(head))
        await stay_silent(SHORT * 1.5)
        await peer.send(STREAM)
        for _ in range(10):
            await peer.send(chunk(b'{"message":{"content":"a"}}\n'))
            await stay_silent(SHORT / 4)
        await peer.send(chunk(b'{"done":true}\n'), chunk(b""))

    async with (
        faulty_ollama(slow) as server,
        running_router(tmp_path, {"one": entry(server)}, idle_timeout=SHORT, request_timeout=SHORT * 6) as router,
        router.client() as client,
    ):
        started = time.monotonic()
        answer = await client.post("/api/chat", content=chat())
        seconds = time.monotonic() - started
    assert len(answer.text.splitlines()) == 11
    assert seconds > SHORT * 3


async def test_a_server_that_says_it_goes_on_has_not_begun(tmp_path: Path) -> None:
    """100 and 102 answers are not a first byte: they neither reach the client nor move the time."""

    async def goes_on(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        for _ in range(100):
            await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            await stay_silent(SHORT / 10)
        await peer.send(whole())
        return False

    async with (
        faulty_ollama(goes_on) as server,
        running_router(tmp_path, {"one": entry(server)}, request_timeout=SHORT) as router,
        router.client() as client,
    ):
        answer = await client.post("/api/chat", content=chat())
    assert answer.status_code == 504
