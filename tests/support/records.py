"""Rows of the log; the core's own tests use them, which have none of the server's packages."""

from __future__ import annotations

from typing import Any

from ollama_router_core.records.request_record import RequestRecord

__all__ = ["make_record"]


def make_record(number: int, **fields: Any) -> RequestRecord:
    """A row like many others; `number` makes its id and its time."""
    plain: dict[str, Any] = {
        "id": f"request-{number}",
        "started_at": 1_000.0 + number,
        "user": "alice",
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/api/chat",
        "model_asked": "llama3.1:8b",
        "model_served": "llama3.1:8b",
        "server": "big",
        "status": 200,
        "attempts": 1,
        "total_ms": 10.0,
    }
    return RequestRecord(**{**plain, **fields})
