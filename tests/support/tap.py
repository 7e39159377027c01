"""A recording TCP relay: what really went over the wire to a server, and when.

It changes nothing and understands nothing; tests read the bytes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Bytes of one read, with the monotonic second at which they passed."""

    at: float
    data: bytes


@dataclass(kw_only=True)
class Tap:
    """What passed so far. `connections` counts accepted ones, also those that sent nothing."""

    host: str
    port: int
    connections: int = 0
    sent: list[Piece] = field(default_factory=list, repr=False)
    received: list[Piece] = field(default_factory=list, repr=False)

    @property
    def url(self) -> str:
        """Where to send instead of to the server."""
        return f"http://{self.host}:{self.port}"

    def sent_bytes(self) -> bytes:
        """Everything that went towards the server, in order."""
        return b"".join(piece.data for piece in list(self.sent))

    def forget(self) -> None:
        """Start counting and recording anew."""
        self.connections = 0
        self.sent.clear()
        self.received.clear()


@contextmanager
def run_tap(host: str, port: int) -> Iterator[Tap]:
    """Relay a free port of loopback to the server at `host:port` until the block ends."""
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))
    tap = Tap(host="127.0.0.1", port=listener.getsockname()[1])

    def start(target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        threads.append(thread)
        thread.start()

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            tap.connections += 1
            try:
                server = socket.create_connection((host, port))
            except OSError:
                client.close()
                continue
            open_sockets.extend((client, server))
            start(_pump, client, server, tap.sent)
            start(_pump, server, client, tap.received)

    start(accept)
    try:
        yield tap
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        listener.close()
        threads[0].join()
        for each in open_sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in threads[1:]:
            thread.join()
        for each in open_sockets:
            each.close()


def _pump(source: socket.socket, sink: socket.socket, record: list[Piece]) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            record.append(Piece(at=time.monotonic(), data=data))
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of loopback that refuses connections and that nobody else gets before the block ends."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])
