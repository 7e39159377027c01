"""System access of the transports: clocks, ids, the environment, files."""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["SystemClock", "environment", "read_text", "request_ids"]


class SystemClock:
    """The system's clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


def request_ids() -> Callable[[], str]:
    """Return a thread-safe source of request ids: 16 random hexadecimal digits per source, then a counter."""
    return map(f"{secrets.token_hex(8)}%08x".__mod__, itertools.count(1)).__next__  # without a Python call per id


def environment() -> Mapping[str, str]:
    """Return the process's environment."""
    return os.environ


def read_text(path: str) -> str:
    """Read the text of a small file.

    Raises:
        OSError, ValueError: the file cannot be read, or is not UTF-8.
    """
    return Path(path).expanduser().read_text(encoding="utf-8")
