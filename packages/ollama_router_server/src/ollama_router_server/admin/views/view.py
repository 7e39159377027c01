"""The base of all views."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["GIB", "View"]

GIB = 1024**3


class View(BaseModel):
    """What is shown of one resource. Sizes are bytes, ages and durations seconds, moments seconds since 1970 (UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
