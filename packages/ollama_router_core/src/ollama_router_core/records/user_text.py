"""Users' texts for rows and log lines: shortened, and without terminal control characters."""

from __future__ import annotations

import re

__all__ = ["LONGEST_TEXT", "shown", "shown_within"]

LONGEST_TEXT = 128
"""Maximum characters of a displayed name or key."""

_LONGEST_MESSAGE = 1000
_LONG_WORD = re.compile(rf"\S{{{LONGEST_TEXT + 1},}}")


def shown(text: str, most: int = LONGEST_TEXT) -> str:
    """Escape an unprintable text as Python's `repr` does, and cut it to `most` characters."""
    escaped = text if text.isprintable() else repr(text)[1:-1]
    return escaped if len(escaped) <= most else f"{escaped[: most - 1]}…"


def shown_within(message: str, name: str | None) -> str:
    """Cut the user's texts in one of the router's messages: a long model name and other long words."""
    if len(message) <= LONGEST_TEXT:
        return shown(message)
    if name is not None and len(name) > LONGEST_TEXT:
        message = message.replace(name, shown(name))
    return shown(_LONG_WORD.sub(lambda word: shown(word[0]), message), _LONGEST_MESSAGE)
