"""`keep_alive`, the time a model stays in memory after a request, parsed as Go does."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["UNLOADING", "keep_alive_seconds"]

UNLOADING = 1.0
"""Seconds of `keep_alive` below which a request unloads the model after its response."""

_DURATION = re.compile(r"([+-]?)((?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))+|[+-]?0")
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 64  # characters


def keep_alive_seconds(value: Any) -> float | None:
    """Return the seconds, negative for ever; None if `keep_alive` is absent or invalid for Ollama."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) < 2**63 else None
    if not isinstance(value, str) or len(value) > _LONGEST or (found := _DURATION.fullmatch(value)) is None:
        return None
    total = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(value))
    return -total if found[1] == "-" and total else total
