"""The real world as the transports see it: clocks, ids, dice, the environment, files.

Belongs here: every read of them in this room.
Does not belong here: anything that decides; tests hand in a `Clock` of their own.
"""

from __future__ import annotations

import itertools
import os
import random
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

__all__ = ["Clock", "RequestIds", "SystemClock", "environment", "read_text"]


class Clock(Protocol):
    """Two clocks that must not be mixed, and one die."""

    def monotonic(self) -> float:
        """Seconds from some start; never goes back."""

    def wall(self) -> float:
        """Seconds since 1970 (UTC)."""

    def jitter(self) -> float:
        """An unpredictable number in [0, 1)."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def jitter(self) -> float:
        """An unpredictable number in [0, 1)."""
        return random.random()  # noqa: S311 - spreads retries, guards nothing


class RequestIds:
    """Ids of requests: 16 random hexadecimal digits for the transport, then a count."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._count = itertools.count(1)

    def __call__(self) -> str:
        """The next id; safe to call from several threads."""
        return f"{self._prefix}{next(self._count):08x}"


def environment() -> Mapping[str, str]:
    """The process's environment."""
    return os.environ


def read_text(path: str) -> str:
    """The text of a small file.

    Raises:
        OSError, ValueError: it cannot be read, or is not UTF-8.
    """
    return Path(path).expanduser().read_text(encoding="utf-8")
