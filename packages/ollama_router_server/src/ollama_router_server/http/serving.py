"""Who answers a request: the application's `fast_path`, or ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import unquote

import structlog

from ollama_router_server.http.cycle import FRONT, FastPath, FrontCycle
from ollama_router_server.http.deadlines import TimedProtocol
from ollama_router_server.http.request_head import RequestHead

__all__ = ["ServingProtocol"]

_log = structlog.get_logger("http")

_FAILED: Final = b"Internal Server Error"


class ServingProtocol(TimedProtocol):
    """A connection whose requests are answered by the application's `fast_path`, or else by the application."""

    __slots__ = ("_fast",)

    def _prepare(self) -> None:
        super()._prepare()
        self._fast: FastPath | None = getattr(self.app, "fast_path", None)

    def shutdown(self) -> None:
        """The server stops: close, after the answer that is under way if there is one."""
        cycle = self._cycle
        if cycle is None or cycle.response_complete:
            self.transport.close()
        else:
            cycle.keep_alive = False

    def _serve(self, head: RequestHead, body: bytes) -> None:
        """Give a whole request to the fast path, and to the ASGI application if that does not take it."""
        self._cycle = cycle = FrontCycle(self, head.method, head.version, keep_alive=head.keep_alive)
        if self._fast is not None and self._fast(cycle, head, body):
            return
        cycle.body_complete(body)
        self._start(cycle, head.target, head.headers, head.version)

    def _start(self, cycle: FrontCycle, target: bytes, headers: list[tuple[bytes, bytes]], version: str) -> None:
        cycle.scope = self._scope(cycle, target, headers, version)

        async def answering() -> None:
            await self.app(cycle.scope, cycle.receive, cycle.send)

        self.run(cycle, answering)

    def on_response_complete(self) -> None:
        """An answer has ended."""
        raise NotImplementedError

    def body_wanted(self) -> None:
        """The application waits for more of a body."""
        raise NotImplementedError

    def run(self, cycle: FrontCycle, answering: Callable[[], Awaitable[None]]) -> None:
        """Answer a request in a task that a shutdown waits for: one that fails or ends early cuts the connection."""
        task = self.loop.create_task(self._run(cycle, answering))
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    async def _run(self, cycle: FrontCycle, answering: Callable[[], Awaitable[None]]) -> None:
        try:
            await answering()
            if not (cycle.response_started or cycle.disconnected):  # one that has begun is cut on purpose
                _log.error("application_gave_no_answer")
        except Exception:  # noqa: BLE001 - whatever an application raises is logged, and the answer cut
            _log.exception("application_failed")
        finally:
            if not (cycle.response_complete or cycle.disconnected):
                self._cut(cycle)

    def _cut(self, cycle: FrontCycle) -> None:
        """Nobody goes on with an answer: an error if it has not begun, else the end of the connection."""
        if cycle.response_started or cycle.disconnected:
            self.transport.close()
            return
        length = b"%d" % len(_FAILED)
        fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", length)]
        cycle.begin(500, [*fields, (b"connection", b"close")], piece_follows=True)
        cycle.put(_FAILED, more=False)

    def _scope(self, cycle: FrontCycle, target: bytes, headers: list[tuple[bytes, bytes]], version: str) -> Any:
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": cycle.method,
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            "state": self.app_state.copy(),
            "extensions": {FRONT: cycle},
        }
