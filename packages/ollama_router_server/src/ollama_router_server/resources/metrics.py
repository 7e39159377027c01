"""Figures for Prometheus: `GET /metrics`.

Belongs here: the route. Does not belong here: what is counted (`ollama_router_server.metrics`), who may ask (`app`).
"""

from __future__ import annotations

from falcon.asgi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ollama_router_server.metrics import Metrics

__all__ = ["MetricsResource"]


class MetricsResource:
    """`GET /metrics`: for admins, for everybody with the setting `metrics_open`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def on_get(self, _request: Request, response: Response) -> None:
        """Answer Prometheus' text format."""
        response.content_type = CONTENT_TYPE_LATEST
        response.data = self._metrics.text()
