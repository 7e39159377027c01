"""What users wrote, as rows and log lines show it: short, and without characters that a terminal would obey."""

from __future__ import annotations

import re

__all__ = ["LONGEST_TEXT", "shown", "shown_within"]

LONGEST_TEXT = 128
"""Characters of one name or key."""

_LONGEST_MESSAGE = 1000
_LONG_WORD = re.compile(rf"\S{{{LONGEST_TEXT + 1},}}")


def shown(text: str, most: int = LONGEST_TEXT) -> str:
    """Escape a user's text as Python would where it cannot be printed, and cut it."""
    escaped = text if text.isprintable() else repr(text)[1:-1]
    return escaped if len(escaped) <= most else f"{escaped[: most - 1]}…"


def shown_within(message: str, name: str | None) -> str:
    """Cut the user's texts in a message of the router's: the model's name, and any word as long."""
    if len(message) <= LONGEST_TEXT:
        return shown(message)
    if name is not None and len(name) > LONGEST_TEXT:
        message = message.replace(name, shown(name))
    return shown(_LONG_WORD.sub(lambda word: shown(word[0]), message), _LONGEST_MESSAGE)
