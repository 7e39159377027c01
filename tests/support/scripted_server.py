"""A server that does exactly what a test says, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Self

__all__ = ["Peer", "ScriptedServer"]


class Peer:
    """The server's end of one connection.

    Attributes:
        number: 0 for the first connection the server accepted.
        received: every byte read so far.
    """

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.received = b""
        self._reader = reader
        self._writer = writer

    async def head(self) -> bytes:
        """Read one request head."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        self.received += head
        return head

    async def body(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        body = await self._reader.readexactly(size)
        self.received += body
        return body

    async def until(self, end: bytes) -> bytes:
        """Read up to and including `end`."""
        data = await self._reader.readuntil(end)
        self.received += data
        return data

    async def at_eof(self) -> bytes:
        """Read until the other side closes or resets, and return what came."""
        parts = []
        with contextlib.suppress(ConnectionError):
            while part := await self._reader.read(65536):
                parts.append(part)
        self.received += b"".join(parts)
        return b"".join(parts)

    async def send(self, *pieces: bytes) -> None:
        """Send each piece in a segment of its own, as far as a network allows to say."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0)

    def half_close(self) -> None:
        """Send an end of stream, but go on reading."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Close with RST."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[Any]]


class ScriptedServer:
    """Runs one script for each connection, then closes that connection.

    Attributes:
        port: where it listens on 127.0.0.1.
        peers: every connection accepted so far.
        open: how many connections are open now.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.peers: list[Peer] = []
        self.open = 0
        self.port = 0
        self._script = script
        self._tls = tls
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        self.open += 1
        try:
            await self._script(peer)
        except asyncio.CancelledError:
            writer.transport.abort()  # a peer that reads no more would keep it open
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except RuntimeError as error:  # what uvloop raises for a write to a connection that is gone
            if "closed" not in str(error):
                raise
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError, ssl.SSLError):
                await writer.wait_closed()
