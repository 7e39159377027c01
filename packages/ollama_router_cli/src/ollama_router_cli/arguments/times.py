"""Times as users type them: `30m`, `12h`, `7d`, `2026-11-23`, `2026-11-23T15:00`."""

from __future__ import annotations

import re
from datetime import datetime

import typer

__all__ = ["parse_moment"]

_SPAN = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_moment(text: str, *, now: float, ahead: bool = False) -> float:
    """Parse a date and time (local without an offset), or a span before `now`, after it with `ahead`.

    Returns:
        Seconds since 1970.

    Raises:
        typer.BadParameter: the text is neither.
    """
    span = _SPAN.fullmatch(text.strip())
    if span:
        seconds = int(span[1]) * _SECONDS[span[2]]
        return now + seconds if ahead else now - seconds
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        known = "30d, 12w or 2026-12-31" if ahead else "30m, 12h, 7d or 2026-01-31T15:00"
        raise typer.BadParameter(f"expected a time such as {known}, got {text!r}") from None
