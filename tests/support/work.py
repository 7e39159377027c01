"""Work counted in calls and in bytes touched, which no other load on the machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["calls", "work"]

_TEXTS = (bytes, bytearray, str)
_SHORT = frozenset({"startswith", "endswith", "join", "format"})
"""Methods that do not go through the text they are called on."""


def calls(function: Callable[[], object]) -> int:
    """How many functions, Python's and C's, are called until `function` returns."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def work(function: Callable[[], object]) -> int:
    """The same, with the length of each text whose methods are called: they go through all of it."""
    count = 0

    def note(_frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event == "call":
            count += 1
        elif event == "c_call":
            text = getattr(argument, "__self__", None)
            count += 1 + (len(text) if isinstance(text, _TEXTS) and argument.__name__ not in _SHORT else 0)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count
