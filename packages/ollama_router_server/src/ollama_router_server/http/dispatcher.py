"""Dispatch of requests: to the application through the cycle if it accepts, else through ASGI."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

import structlog

from ollama_router_server.http.connection_context import Addresses, ServerState
from ollama_router_server.http.cycle import FrontApp, FrontCycle
from ollama_router_server.http.request_head import RequestHead

__all__ = ["Dispatcher"]

_log = structlog.get_logger("http")


class Dispatcher:
    """Start the application on each request of one connection as soon as its head is parsed."""

    __slots__ = ("_app", "_app_state", "_front_app", "_loop", "_server_state")

    def __init__(
        self, app: Any, app_state: dict[str, Any], server_state: ServerState, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._app = app
        self._app_state = app_state
        self._front_app: FrontApp | None = app if hasattr(app, "take") else None
        self._server_state = server_state
        self._loop = loop

    def start(self, cycle: FrontCycle, head: RequestHead, addresses: Addresses) -> None:
        """Start serving a request."""
        if self._front_app is not None and self._front_app.take(cycle, head):
            return
        cycle.scope = self._scope(head, addresses)
        task = self._loop.create_task(self._run(cycle))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    async def _run(self, cycle: FrontCycle) -> None:
        """Run the ASGI application in a task that a shutdown waits for; cut the response if it fails or ends early."""
        try:
            await self._app(cycle.scope, cycle.receive, cycle.send)
            if not (cycle.response_started or cycle.disconnected):  # a response that has started is cut on purpose
                _log.error("application_gave_no_answer")
        except Exception:  # noqa: BLE001 - whatever an application raises is logged, and the response cut
            _log.exception("application_failed")
        finally:
            if not (cycle.response_complete or cycle.disconnected):
                cycle.cut()

    def _scope(self, head: RequestHead, addresses: Addresses) -> Any:
        raw_path, _, query = head.target.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version,
            "server": addresses.server,
            "client": addresses.client,
            "scheme": addresses.scheme,
            "method": head.method,
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": head.headers,
            "state": self._app_state.copy(),
        }
