"""Databases and clocks for tests of what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from ollama_router_core.records import RequestRecord

__all__ = ["FakeClock", "delete_database", "make_record", "sqlite_url"]


@dataclass
class FakeClock:
    """Both clocks of the router, moved by hand."""

    now: float = 1_000.0
    epoch: float = 1_700_000_000.0

    def monotonic(self) -> float:
        """Seconds, as set."""
        return self.now

    def wall(self) -> float:
        """Seconds since 1970, moving along with `now`."""
        return self.epoch + self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def delete_database(path: Path) -> None:
    """Remove a SQLite file with what belongs to it."""
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()


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
