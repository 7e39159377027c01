"""Query parameters of the admin routes."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final, TypeVar

from falcon.asgi import Request

from ollama_router_core.errors import InvalidBody

__all__ = ["DATE", "read_choice", "read_day", "read_moment"]

DATE: Final = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?)?"
"""A date with optional time, as a regular expression of JSON Schema."""
_DATE = re.compile(DATE, re.ASCII)

Word = TypeVar("Word", bound=str)


def read_choice(request: Request, name: str, words: Collection[Word]) -> Word | None:
    """Read a parameter with one of the values `words`; None if it is empty or missing.

    Raises:
        InvalidBody: it has another value.
    """
    text = request.get_param(name)
    if not text:
        return None
    for word in words:
        if word == text:
            return word
    raise InvalidBody(f"{name} must be one of {', '.join(words)}")


def read_moment(request: Request, name: str) -> float | None:
    """Read a time as seconds since 1970: a number, or a date with optional time, in UTC without an offset.

    Raises:
        InvalidBody: it is not a time.
    """
    text = request.get_param(name)
    if text is None:
        return None
    try:
        seconds = _seconds_of(text) if _DATE.fullmatch(text) else float(text)
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds <= 2**52:
        raise InvalidBody(f"{name} must be a number of seconds since 1970, or a time such as 2026-01-31T15:00")
    return seconds


def _seconds_of(text: str) -> float:
    date = datetime.fromisoformat(text)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def read_day(request: Request, wall: float, name: str = "day") -> tuple[str, int]:
    """Read a day, by default the one of `wall`; return it with its start (UTC, seconds since 1970).

    Raises:
        InvalidBody: it is not a day.
    """
    text = request.get_param(name)
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if text else datetime.fromtimestamp(wall, UTC)
    except ValueError:
        raise InvalidBody(f"{name} must look like 2026-11-28") from None
    if day.year < 1970:
        raise InvalidBody(f"{name} must not be before 1970")
    return f"{day:%Y-%m-%d}", int(day.replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
