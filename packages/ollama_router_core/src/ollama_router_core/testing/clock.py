"""The simulator's time: virtual seconds that pass in a fraction of real ones.

Contains the scale, a wall clock that tests can advance, and Go's time formats.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from ollama_router_core.testing.simulator_settings import Settings

__all__ = ["SimulatedClock", "parse_go_duration", "rfc3339"]

_FAR_FUTURE = "2318-01-01T00:00:00Z"
"""`expires_at` of a model that never expires (Go adds the largest int64 of nanoseconds)."""

_SHORTEST_SLEEP = 0.001
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")


@dataclass(slots=True, kw_only=True)
class SimulatedClock:
    """Virtual time of one server, by its settings; keep-alive uses `now`, unscaled."""

    settings: Settings
    offset: float = 0.0

    def now(self) -> float:
        """Return the simulator's seconds since the epoch."""
        return self.settings.wall() + self.offset

    def advance(self, seconds: float) -> None:
        """Advance keep-alive time by `seconds`."""
        self.offset += seconds

    def virtual(self, seconds: float) -> float:
        """Convert real seconds to virtual seconds of work; 0 if work takes no time."""
        scale = self.settings.time_scale
        return seconds / scale if scale else 0.0

    def pacer(self) -> Pacer:
        """Return a pacer for a new piece of work."""
        return Pacer(self)


class Pacer:
    """Sleep for virtual seconds; short sleeps are accumulated until they are long enough for a timer."""

    __slots__ = ("_clock", "_owed")

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._owed = 0.0

    async def spend(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass; always yields to other tasks."""
        settings = self._clock.settings
        self._owed += seconds * settings.time_scale
        due = self._owed if self._owed >= _SHORTEST_SLEEP else 0.0
        self._owed -= due
        await settings.sleep(due)


def rfc3339(seconds: float) -> str:
    """Format seconds since the epoch as Go formats a UTC time; infinity is the far future."""
    if math.isinf(seconds):
        return _FAR_FUTURE
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    fraction = f".{microseconds:06d}".rstrip("0") if microseconds else ""
    return f"{_to_the_second(whole)}{fraction}Z"


@lru_cache(maxsize=64)
def _to_the_second(seconds: int) -> str:
    """Format a time to the second; cached, as every token of a stream has one."""
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"


def parse_go_duration(text: str) -> float | None:
    """Return the seconds of a Go duration such as `1h30m` or `-1s`; None for other text."""
    sign = -1.0 if text.startswith("-") else 1.0
    body = text.lstrip("+-")
    if body == "0":
        return 0.0
    parts = _PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        return None
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)
