"""Uvicorn's protocol class with our own cycle and a way past ASGI: who answers a request.

Belongs here: cycles, scopes, the fast path, tasks. Does not belong here: bytes, parsing, refusals (`strict`).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from ollama_router_server.protocol.cycle import FRONT, FastPath, FrontCycle
from ollama_router_server.protocol.deadlines import TimedProtocol
from ollama_router_server.protocol.request_head import RequestHead

__all__ = ["ServingProtocol"]


class ServingProtocol(TimedProtocol):
    """A connection whose requests are answered by the application's `fast_path`, or else by the application."""

    __slots__ = ("_fast", "_keeps_alive", "_version")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._version = "1.1"
        self._keeps_alive = True
        self._fast: FastPath | None = getattr(self.app, "fast_path", None)

    def _make_cycle(self) -> FrontCycle:
        method = self.parser.get_method().decode("ascii")
        self.cycle = cycle = FrontCycle(
            self, method, self._version, keep_alive=self._keeps_alive, expect_100_continue=self.expect_100_continue
        )
        return cycle

    def _serve(self, head: RequestHead, body: bytes) -> None:
        """Give a whole request to the fast path, and to the ASGI application if that does not take it."""
        self.cycle = cycle = FrontCycle(self, head.method, head.version, keep_alive=head.keep_alive)
        if self._fast is not None and self._fast(cycle, head, body):
            return
        self.url, self._version = head.target, head.version
        length = b"%d" % len(body)  # a head that was recognised has that of its first request
        self.headers = [(name, length if name == b"content-length" else value) for name, value in head.headers]
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        self._start(cycle)

    def _start(self, cycle: FrontCycle) -> None:
        cycle.scope = self._scope(cycle)
        self.start(cycle, self.app)

    def body_wanted(self) -> None:
        """The application waits for more of a body."""
        raise NotImplementedError

    def start(self, cycle: FrontCycle, app: Any) -> None:
        """Run an ASGI application for a cycle, in a task that a shutdown waits for."""
        self._start_asgi_task(cycle, app)

    def _scope(self, cycle: FrontCycle) -> Any:
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": self._version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": cycle.method,
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": self.app_state.copy(),
            "extensions": {FRONT: cycle},
        }
