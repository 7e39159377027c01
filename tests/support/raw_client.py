"""A client that writes bytes and leaves as it likes, and tells a complete answer from one that was cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h11

from support.faulty_ollama import MODEL

__all__ = ["Answer", "RawClient", "chat", "parsed", "request_bytes"]


def chat(**more: Any) -> bytes:
    """The body of a chat request, streamed unless told otherwise."""
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **more}).encode()


def request_bytes(
    token: str,
    body: bytes | None = None,
    *,
    path: str = "/api/chat",
    method: str = "POST",
    version: str = "1.1",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole request; without a body the caller writes one behind it and says in `headers` how it is framed."""
    lines = [f"{method} {path} HTTP/{version}", "Host: router", f"Authorization: Bearer {token}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: `complete` only if the framing says that nothing is missing."""

    status: int
    fields: dict[str, str]
    body: bytes
    complete: bool


def parsed(data: bytes, *, method: str = "POST") -> Answer:
    """The first answer in everything that came until the connection ended."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "x"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, fields, body = 0, {}, bytearray()
    with contextlib.suppress(h11.RemoteProtocolError):
        while not isinstance(event := connection.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
            if isinstance(event, h11.Response):
                status = event.status_code
                fields = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
        return Answer(status=status, fields=fields, body=bytes(body), complete=isinstance(event, h11.EndOfMessage))
    return Answer(status=status, fields=fields, body=bytes(body), complete=False)


class RawClient:
    """One connection to a router. `received` holds every byte read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = bytearray()

    @classmethod
    @asynccontextmanager
    async def open(cls, port: int, *, receive_buffer: int | None = None) -> AsyncIterator[RawClient]:
        """Connect, and leave when the block ends.

        With a small `receive_buffer` the kernel takes little for a client that does not read.
        """
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=4096 if receive_buffer else 65536)
        client = cls(reader, writer)
        try:
            yield client
        finally:
            await client.close()

    async def send(self, data: bytes) -> None:
        """Write, and wait while the router does not take it."""
        self.writer.write(data)
        await self.writer.drain()

    async def until(self, end: bytes) -> bytes:
        """Read up to and including `end`."""
        async with asyncio.timeout(20):
            data = await self.reader.readuntil(end)
        self.received += data
        return data

    async def to_end(self) -> bytes:
        """Read until the router closes or resets; everything that came, from the beginning on."""
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    self.received += data
        return bytes(self.received)

    async def answer(self, *, method: str = "POST") -> Answer:
        """Read until the router closes or resets, and parse."""
        return parsed(await self.to_end(), method=method)

    def reset(self) -> None:
        """Leave with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def half_close(self) -> None:
        """Say that nothing more will be sent, and go on reading."""
        self.writer.write_eof()

    async def close(self) -> None:
        """Leave with FIN, or at once where the router takes no more of what was to be sent."""
        if self.writer.transport.get_write_buffer_size():
            self.writer.transport.abort()
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
