"""Totals of the request log: `GET /router/usage`."""

from __future__ import annotations

from dataclasses import asdict

from falcon.asgi import Request, Response

from ollama_router_server.admin.access import READERS
from ollama_router_server.admin.bodies import answer, moment
from ollama_router_server.admin.shapes import UsageBody
from ollama_router_server.services import Services
from ollama_router_server.storage.log_filter import LogFilter

__all__ = ["UsageResource"]


class UsageResource:
    """`GET /router/usage[?since=SECONDS][&user=NAME]`: requests, errors and tokens by user, model and server."""

    roles = READERS

    def __init__(self, services: Services) -> None:
        self._log = services.request_log

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer the totals."""
        since = moment(request.get_param("since"))
        stats = asdict(await self._log.stats(LogFilter(user=request.get_param("user"), since=since)))
        del stats["ttft_ms"], stats["total_ms"]
        answer(response, UsageBody(since=since, **stats))
