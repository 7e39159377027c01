"""The real world as the transports see it: clocks, ids, the environment, files."""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

__all__ = ["Clock", "SystemClock", "environment", "read_text", "request_ids"]


class Clock(Protocol):
    """Two clocks that must not be mixed."""

    def monotonic(self) -> float:
        """Seconds from some start; never goes back."""

    def wall(self) -> float:
        """Seconds since 1970 (UTC)."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


def request_ids() -> Callable[[], str]:
    """Return a thread-safe source of request ids: 16 random hexadecimal digits for the transport, then a count."""
    return map(f"{secrets.token_hex(8)}%08x".__mod__, itertools.count(1)).__next__  # no call of Python for each


def environment() -> Mapping[str, str]:
    """Return the process's environment."""
    return os.environ


def read_text(path: str) -> str:
    """Read the text of a small file.

    Raises:
        OSError, ValueError: it cannot be read, or is not UTF-8.
    """
    return Path(path).expanduser().read_text(encoding="utf-8")
