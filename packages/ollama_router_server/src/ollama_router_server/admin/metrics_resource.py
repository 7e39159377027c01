"""Metrics for Prometheus: `GET /metrics`."""

from __future__ import annotations

from falcon.asgi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ollama_router_server.admin.token_access import READERS
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.telemetry.metric_aggregation import text_of

__all__ = ["MetricsResource"]


class MetricsResource:
    """`GET /metrics`: for viewers and admins, or for everyone with `metrics_open`."""

    roles = READERS

    def __init__(self, sync: WorkerSync) -> None:
        self._sync = sync

    async def on_get(self, _request: Request, response: Response) -> None:
        """Answer in Prometheus' text format; any worker answers for all."""
        response.content_type = CONTENT_TYPE_LATEST
        response.data = text_of(self._sync.figures())
