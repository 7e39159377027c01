"""Who answers a request: the application through the cycle if it can, else through ASGI."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import structlog

from ollama_router_server.http.cycle import FrontApp, FrontCycle
from ollama_router_server.http.deadlines import TimedProtocol
from ollama_router_server.http.request_head import RequestHead

__all__ = ["ServingProtocol"]

_log = structlog.get_logger("http")


class ServingProtocol(TimedProtocol):
    """A connection whose requests are given to the application as soon as their heads are there."""

    __slots__ = ("_front_app",)

    def _prepare(self) -> None:
        super()._prepare()
        self._front_app: FrontApp | None = self.app if hasattr(self.app, "take") else None

    def shutdown(self) -> None:
        """The server stops: close, after the answer that is under way if there is one."""
        cycle = self._cycle
        if cycle is None or cycle.response_complete:
            self.close()
        else:
            cycle.keep_alive = False

    def _start(self, cycle: FrontCycle, head: RequestHead) -> None:
        if self._front_app is not None and self._front_app.take(cycle, head):
            return
        cycle.scope = self._scope(head)
        task = self.loop.create_task(self._run(cycle))
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def close(self) -> None:
        """Close once the client has taken what was written; one that stops reading is cut."""
        raise NotImplementedError

    def on_response_complete(self) -> None:
        """An answer has ended."""
        raise NotImplementedError

    def body_wanted(self) -> None:
        """The application waits for more of a body."""
        raise NotImplementedError

    async def _run(self, cycle: FrontCycle) -> None:
        """Answer a request in a task that a shutdown waits for: one that fails or ends early cuts the connection."""
        try:
            await self.app(cycle.scope, cycle.receive, cycle.send)
            if not (cycle.response_started or cycle.disconnected):  # one that has begun is cut on purpose
                _log.error("application_gave_no_answer")
        except Exception:  # noqa: BLE001 - whatever an application raises is logged, and the answer cut
            _log.exception("application_failed")
        finally:
            if not (cycle.response_complete or cycle.disconnected):
                cycle.cut()

    def _scope(self, head: RequestHead) -> Any:
        raw_path, _, query = head.target.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": head.method,
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": head.headers,
            "state": self.app_state.copy(),
        }
