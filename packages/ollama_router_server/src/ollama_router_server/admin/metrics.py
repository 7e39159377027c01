"""Figures for Prometheus: `GET /metrics`."""

from __future__ import annotations

from falcon.asgi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ollama_router_server.services import Services
from ollama_router_server.telemetry.metric_aggregation import text_of
from ollama_router_server.telemetry.metrics import Metrics

__all__ = ["MetricsResource"]


class MetricsResource:
    """`GET /metrics`: for viewers and admins, for everybody with the setting `metrics_open`."""

    def __init__(self, metrics: Metrics, services: Services) -> None:
        self._metrics = metrics
        self._services = services

    async def on_get(self, _request: Request, response: Response) -> None:
        """Answer Prometheus' text format; one of several workers answers for all."""
        siblings = self._services.siblings
        response.content_type = CONTENT_TYPE_LATEST
        response.data = self._metrics.text() if siblings is None else text_of(siblings.figures())
