"""A host of one dialect in threads: its socket, its routes, what it remembers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any, ClassVar, Self

from support.scripted_hosts import chat, messages, ollama, responses
from support.scripted_hosts.script import Refused, Said, Seen, answer
from support.waiting import wait_until

__all__ = ["Dialect", "ScriptedHost"]


class Dialect(StrEnum):
    """What a host speaks."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    OPENAI_RESPONSES = "openai_responses"
    ANTHROPIC = "anthropic"


_ROUTES: Mapping[Dialect, Mapping[str, ModuleType]] = {
    Dialect.OLLAMA: {
        "/api/chat": ollama,
        "/v1/chat/completions": chat,
        "/v1/responses": responses,
        "/v1/messages": messages,
    },
    Dialect.OPENAI: {"/v1/chat/completions": chat},
    Dialect.OPENAI_RESPONSES: {"/v1/responses": responses},
    Dialect.ANTHROPIC: {"/v1/messages": messages},
}


@dataclass(slots=True)
class ScriptedHost:
    """A context manager: listens on `port` of 127.0.0.1 until the block ends.

    Attributes:
        seen: the requests it answered, in order.
        refusals: what it refused, as texts.
        left: the prompts whose client left before the end.
    """

    dialect: Dialect
    models: tuple[str, ...]
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    _server: ThreadingHTTPServer = field(init=False, repr=False)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"host": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """Forget what was asked and refused so far."""
        self.seen.clear()
        self.refusals.clear()
        self.left.clear()

    def asked(self, text: str) -> list[Seen]:
        """The requests whose latest turn has the text in it."""
        return [seen for seen in tuple(self.seen) if text in seen.turns[-1].text]

    def wait_asked(self, text: str) -> None:
        """Wait until a request with the text in its latest turn is being answered."""
        wait_until(lambda: bool(self.asked(text)), f"{self.dialect} is asked {text!r}", seconds=60)

    def wait_left(self) -> None:
        """Wait until the client of each request has left before the end."""
        wait_until(lambda: len(self.left) == len(self.seen), f"all clients leave {self.dialect}", seconds=60)

    def answer(self, route: str, body: Mapping[str, Any]) -> tuple[Seen, Said]:
        """Understand a request and remember it; raises `Refused`."""
        try:
            if (codec := _ROUTES[self.dialect][route]) is messages and self.dialect is Dialect.OLLAMA:
                body = ollama.spoken_by_two(body)
            seen = codec.read(route, body)
            said = answer(seen, len(self.seen))
        except KeyError as missing:
            raise Refused(f"missing: {missing}") from missing
        self.seen.append(seen)
        return seen, said


class _Handler(BaseHTTPRequestHandler):
    host: ClassVar[ScriptedHost]
    protocol_version = "HTTP/1.1"
    timeout = 120

    def do_GET(self) -> None:
        """The lists that a router asks for."""
        bodies: dict[str, Callable[[], Any]] = {
            "/api/version": lambda: {"version": "0.33.0"},
            "/api/tags": lambda: ollama.tags(self.host.models),
            "/api/ps": lambda: {"models": []},
            "/": lambda: "Ollama is running",
        }
        served = bodies.get(self.path) if self.host.dialect is Dialect.OLLAMA else None
        self._send(200 if served else 404, served() if served else {"error": "not found"})

    def do_HEAD(self) -> None:
        """As GET."""
        self.do_GET()

    def do_POST(self) -> None:
        """Answer a request of the dialect."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        codec = _ROUTES[self.host.dialect].get(path)
        if codec is None:
            shows = self.host.dialect is Dialect.OLLAMA and path == "/api/show"
            self._send(200 if shows else 404, ollama.show() if shows else {"error": {"message": f"no route {path}"}})
            return
        try:
            seen, said = self.host.answer(path, body)
        except Refused as refused:
            self.host.refusals.append(f"{path}: {refused}")
            self._send(400, codec.refusal(str(refused)))
            return
        if not seen.stream:
            self._send(200, codec.whole(said, seen))
            return
        try:
            self._stream(codec.stream(said, seen), lines=codec is ollama)
        except OSError:
            self.host.left.append(seen.turns[-1].text)
            self.close_connection = True

    def _stream(self, pieces: Iterator[bytes], *, lines: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson" if lines else "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing."""
