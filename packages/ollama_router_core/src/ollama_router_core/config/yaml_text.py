"""Rendering of single lines of YAML: comments and values."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

__all__ = ["comment", "inline"]

_WIDTH = 100


def comment(text: str, indent: int = 0) -> Iterator[str]:
    """Yield the lines of a comment; control characters become spaces, so that the text cannot end it."""
    start = " " * indent + "# "
    shown = "".join(char if char.isprintable() else " " for char in text)
    yield from textwrap.wrap(
        " ".join(shown.split()),
        _WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_on_hyphens=False,
        break_long_words=False,
    )


def inline(value: Any) -> str:
    """Return a value as YAML on one line."""
    text: str = yaml.safe_dump(value, allow_unicode=True, width=10**6, default_flow_style=True)
    return text.partition("\n")[0]
