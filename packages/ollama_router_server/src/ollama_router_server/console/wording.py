"""Numbers, sizes and times formatted for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["NOTHING", "age", "count", "duration", "gib", "moment", "money", "plain", "short"]

NOTHING = "\u2013"
"""The sign for a missing value."""

_SHOWN = 128


def gib(size: float | None) -> str:
    """Format bytes as GiB, with three significant digits."""
    if size is None:
        return NOTHING
    value = size / 1024**3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def duration(ms: float | None) -> str:
    """Format milliseconds with a suitable unit."""
    if ms is None:
        return NOTHING
    if ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def age(seconds: float | None) -> str:
    """Format an age with a suitable unit."""
    if seconds is None:
        return "never"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def moment(wall: float | None, form: str = "%Y-%m-%d %H:%M:%SZ") -> str:
    """Format seconds since 1970 as date and time (UTC), as in `<time>`; the browser shows local time."""
    return NOTHING if wall is None else datetime.fromtimestamp(wall, UTC).strftime(form)


def count(number: float | None) -> str:
    """Format a number with thousands separators."""
    return NOTHING if number is None else f"{number:,.0f}"


def money(micros: int) -> str:
    """Format millionths of a currency; amounts below a hundredth show as `< 0.01`."""
    return "< 0.01" if 0 < micros < 10_000 else f"{micros / 1e6:,.2f}"


def plain(value: Any) -> str:
    """Format a JSON value in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{str(name).replace('_', ' ')} {plain(one)}" for name, one in value.items()) or "none"
    return ", ".join(map(plain, value)) or "none" if isinstance(value, list) else str(value)


def short(text: object) -> str:
    """Truncate external text that would fill the page."""
    shown = str(text)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"
