"""The strict front under test: in-process without sockets, and as a real server in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from ollama_router_server.http.protocol_limits import Bounds, ProtocolLimits
from ollama_router_server.http.strict import StrictProtocol, strict_protocol
from support.eventually import eventually
from support.http_corpus import Seen

__all__ = ["Feed", "Front", "connected", "feed", "read_to_end", "serve_front"]


class Recorder:
    """An ASGI application that reads a whole body, remembers the request, and answers 200 with the body.

    Paths with a meaning: `/early` answers before the body is read and never ends that answer, `/wait` answers when
    `released` is set, `/large` answers with 4 MiB, `/pieces` in pieces without a length, `/unfinished` likewise but
    without an end, `/pause` with its end when `released` is set.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.cut = 0
        self.released = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["raw_path"]
        if path == b"/early":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"early", "more_body": True})
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.cut += 1
                return
            body += message["body"]
            if not message["more_body"]:
                break
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        self.seen.append(Seen(scope["method"], path + query, body))
        self.headers.append(list(scope["headers"]))
        if path == b"/wait":
            await eventually(self.released.is_set)
        if path in {b"/pieces", b"/unfinished", b"/pause"}:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for piece in (b"one ", b"two ", b"three"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if path == b"/pause":
                await eventually(self.released.is_set)
            if path != b"/unfinished":
                await send({"type": "http.response.body", "body": b""})
            return
        answer = b"x" * 4_194_304 if path == b"/large" else body
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
        )
        await send({"type": "http.response.body", "body": answer})


class _Transport(asyncio.Transport):
    """Remembers what is written; reading and writing never block. `held` is what the client has not taken yet."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.held = 0
        self.written = b""
        self.closing = False
        self.half_closed = False
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.half_closed, "nothing may be written after the end"
        self.written += bytes(data)

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.held


@dataclass(frozen=True)
class Feed:
    """What became of some bytes: requests seen, statuses answered, whether we closed or wait for more."""

    seen: tuple[Seen, ...]
    statuses: tuple[int, ...]
    closed: bool
    headers: tuple[tuple[tuple[bytes, bytes], ...], ...] = field(default=(), compare=False)
    unfinished: bool = field(default=False, compare=False)


def _statuses(written: bytes) -> tuple[int, ...]:
    return tuple(int(part[:3]) for part in written.split(b"HTTP/1.1 ")[1:])


async def _turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def connected(app: Recorder | None = None, **limits: Any) -> tuple[StrictProtocol, _Transport]:
    """A protocol object with a connection in memory, in front of a `Recorder`."""
    config = uvicorn.Config(app or Recorder(), lifespan="off", log_config=None, access_log=False, proxy_headers=False)
    config.load()
    bounds = Bounds(ProtocolLimits(**limits))
    protocol = StrictProtocol(config=config, server_state=ServerState(), app_state={}, bounds=bounds)
    transport = _Transport()
    protocol.connection_made(transport)
    return protocol, transport


async def _feed(pieces: Sequence[bytes], turns: int) -> Feed:
    app = Recorder()
    protocol, transport = connected(app)
    for piece in pieces:
        if transport.closing:
            break
        protocol.data_received(piece)
        await _turn(turns)
    await _turn(30)
    closed = transport.closing or transport.half_closed
    unfinished = not closed and bool(protocol._requests.held or protocol._requests.in_body)
    protocol.connection_lost(None)
    await _turn(5)
    headers = tuple(tuple(fields) for fields in app.headers)
    return Feed(tuple(app.seen), _statuses(transport.written), closed, headers, unfinished)


def feed(pieces: Sequence[bytes], *, turns: int = 3) -> Feed:
    """Put the pieces, one segment each, into a new protocol object; the loop turns between them."""
    return asyncio.run(_feed(pieces, turns))


@dataclass
class Front:
    """A running server."""

    port: int
    app: Recorder
    server: uvicorn.Server
    bounds: Bounds

    def connect(self) -> socket.socket:
        """A new connection that fails a test instead of hanging."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def exchange(self, *pieces: bytes) -> bytes:
        """Send the pieces and return everything until the server closes."""
        with self.connect() as sock:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    sock.sendall(piece)
            return read_to_end(sock)


def read_to_end(sock: socket.socket) -> bytes:
    """Everything until the other side closes or resets."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


@contextlib.contextmanager
def serve_front(loop: str = "asyncio", *, strict: bool = True, **limits: Any) -> Iterator[Front]:
    """Run uvicorn in a thread with our protocol, or with its own for comparison."""
    app, bounds = Recorder(), Bounds(ProtocolLimits(**limits))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=strict_protocol(bounds) if strict else "httptools",
            loop=loop,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
    )
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield Front(listener.getsockname()[1], app, server, bounds)
        finally:
            app.released.set()
            server.should_exit = True
            thread.join(20)
