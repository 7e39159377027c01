"""One HTTP/1.1 exchange over a socket of its own, seen as it stands on the wire."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import h11

__all__ = ["Answer", "Request", "Server"]

Framing = Literal["length", "chunked", "none", "until close"]
_WAIT_FOR_CONTINUE = 1.0  # seconds; as curl does
_READ_SIZE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent. `pieces` sends the body as chunks; `expects` asks for `100 Continue` before the body."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = field(default=None, repr=False)
    pieces: tuple[bytes, ...] | None = field(default=None, repr=False)
    expects: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back. `headers` are in order, names in lower case; `chunks` are the payloads as they were framed.

    `span` is the time from the first chunk to the last, in seconds.
    `problem` says why there is no complete answer; `interim` are the 1xx codes before it; `reusable` says whether the
    server offers the connection for another request.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    framing: Framing = "none"
    chunks: tuple[bytes, ...] = field(default=(), repr=False)
    interim: tuple[int, ...] = ()
    reusable: bool = False
    span: float = 0.0
    problem: str | None = None

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)

    def header(self, name: str) -> str | None:
        """All values of a field, joined; None when it is absent."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where exchanges are played. A path in the URL is put before every path; `token` is sent as Bearer."""

    url: str
    token: str | None = field(default=None, repr=False)
    timeout: float = 300.0

    def ask(self, request: Request) -> Answer:
        """One exchange on a connection of its own."""
        return self.ask_all([request])[0]

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Exchanges one after another on one connection, as long as the server keeps it."""
        answers: list[Answer] = []
        try:
            with self._connect() as sock:
                connection = h11.Connection(h11.CLIENT)
                for request in requests:
                    answer = _Exchange(sock, connection, self.timeout).play(request, self._head(request))
                    answers.append(answer)
                    if not answer.reusable:
                        break
                    connection.start_next_cycle()
        except OSError as error:
            answers.append(Answer(problem=f"no connection: {type(error).__name__}"))
        missing = Answer(problem="the connection was closed before this request")
        return answers + [missing] * (len(requests) - len(answers))

    def _connect(self) -> socket.socket:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        address = (parts.hostname or "127.0.0.1", parts.port or (443 if secure else 80))
        sock = socket.create_connection(address, timeout=self.timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return ssl.create_default_context().wrap_socket(sock, server_hostname=address[0]) if secure else sock

    def _head(self, request: Request) -> h11.Request:
        parts = urlsplit(self.url)
        headers = [("Host", parts.netloc), *request.headers]
        names = {name.lower() for name, _ in request.headers}
        if self.token is not None and "authorization" not in names:
            headers.append(("Authorization", f"Bearer {self.token}"))
        if request.pieces is not None:
            headers.append(("Transfer-Encoding", "chunked"))
        elif request.body is not None:
            headers.append(("Content-Length", str(len(request.body))))
        if request.expects:
            headers.append(("Expect", "100-continue"))
        target = parts.path.rstrip("/") + request.path
        return h11.Request(method=request.method, target=target, headers=headers)


class _Exchange:
    def __init__(self, sock: socket.socket, connection: h11.Connection, timeout: float) -> None:
        self._sock = sock
        self._http = connection
        self._timeout = timeout
        self._interim: list[int] = []
        self._head: h11.Response | None = None
        self._chunks: list[bytearray] = []
        self._moments: list[float] = []

    def play(self, request: Request, head: h11.Request) -> Answer:
        """Send the request, read the answer to its end."""
        problem = None
        try:
            self._sock.sendall(self._http.send(head) or b"")
            if not request.expects or self._may_go_on():
                self._send_body(request)
            self._read()
        except (h11.ProtocolError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        return self._answer(problem)

    def _may_go_on(self) -> bool:
        """Wait for 100 or for a final answer; silence means that the body may be sent, too."""
        deadline = time.monotonic() + _WAIT_FOR_CONTINUE
        try:
            while not self._interim and self._head is None:
                self._take(self._next_event(max(0.01, deadline - time.monotonic())))
        except TimeoutError:
            return True
        return self._head is None

    def _send_body(self, request: Request) -> None:
        body = (request.body,) if request.body else ()
        try:
            for piece in request.pieces if request.pieces is not None else body:
                self._sock.sendall(self._http.send(h11.Data(data=piece)) or b"")
            self._sock.sendall(self._http.send(h11.EndOfMessage()) or b"")
        except (BrokenPipeError, ConnectionResetError):
            return  # an answer may have come before the body was wanted

    def _read(self) -> None:
        while self._http.their_state in {h11.SEND_RESPONSE, h11.SEND_BODY}:
            self._take(self._next_event(self._timeout))

    def _next_event(self, timeout: float) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._sock.settimeout(timeout)
            self._http.receive_data(self._sock.recv(_READ_SIZE))
        return event

    def _take(self, event: Any) -> None:
        if isinstance(event, h11.InformationalResponse):
            self._interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            self._head = event
        elif isinstance(event, h11.Data):
            if event.chunk_start or not self._chunks:
                self._chunks.append(bytearray())
                self._moments.append(time.monotonic())
            self._chunks[-1] += event.data

    def _answer(self, problem: str | None) -> Answer:
        head = self._head
        if head is None:
            return Answer(problem=problem or "no answer", interim=tuple(self._interim))
        headers = tuple(_texts(head.headers))
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        return Answer(
            status=head.status_code,
            headers=headers,
            framing=_framing(dict(headers), done=done),
            chunks=tuple(map(bytes, self._chunks)),
            interim=tuple(self._interim),
            reusable=problem is None and done,
            span=self._moments[-1] - self._moments[0] if self._moments else 0.0,
            problem=problem,
        )


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[str, str]]:
    return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


def _framing(headers: dict[str, str], *, done: bool) -> Framing:
    if "chunked" in headers.get("transfer-encoding", ""):
        return "chunked"
    if "content-length" in headers:
        return "length"
    return "none" if done else "until close"
