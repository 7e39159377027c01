"""Numbers, sizes and moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["NOTHING", "age", "count", "duration", "gib", "moment", "short"]

NOTHING = "\u2013"
"""Stands where there is no value."""

_SHOWN = 128


def gib(size: float | None) -> str:
    """Bytes in GiB, with three significant digits."""
    if size is None:
        return NOTHING
    value = size / 1024**3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def duration(ms: float | None) -> str:
    """Milliseconds, with the unit that suits them."""
    if ms is None:
        return NOTHING
    if ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def age(seconds: float | None) -> str:
    """How long ago something was."""
    if seconds is None:
        return "never"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def moment(wall: float | None) -> str:
    """Seconds since 1970 as date and time (UTC), as `<time>` has them; the browser shows its own."""
    return NOTHING if wall is None else datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def count(number: float | None) -> str:
    """A number with its thousands apart."""
    return NOTHING if number is None else f"{number:,.0f}"


def short(text: object) -> str:
    """A text from outside, cut where it would fill the page."""
    shown = str(text)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"
