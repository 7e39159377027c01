"""The system: clocks, randomness, the environment."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TextIO

__all__ = [
    "Clock",
    "SystemClock",
    "environment",
    "machine_name",
    "new_request_id",
    "random_below",
    "random_bytes",
    "read_text",
    "shows_colors",
]


class Clock(Protocol):
    """Two clocks whose values must not be mixed."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back. For durations and deadlines."""

    def wall(self) -> float:
        """Return seconds since 1970 (UTC); may jump. For display and storage."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


_process = secrets.token_hex(4)
_numbers = itertools.count(secrets.randbelow(1 << 31))
_moment, _prefix = -1, ""  # the millisecond of the last id, and the common prefix of its ids


def _renew() -> None:
    """Reset the id generator: a forked process must not repeat its siblings' ids."""
    global _process, _numbers, _moment  # noqa: PLW0603 - the ids of a process
    _moment = -1
    _process = secrets.token_hex(4)
    _numbers = itertools.count(secrets.randbelow(1 << 31))


os.register_at_fork(after_in_child=_renew)


def new_request_id() -> str:
    """Return 28 hexadecimal digits: 12 of the time in milliseconds, 8 of the process, 8 of a counter.

    Ids of a process sort by time, so that the request log's index grows at its end. Security does not depend on ids
    being hard to guess.
    """
    global _moment, _prefix
    now = time.time_ns() // 1_000_000
    if now != _moment:
        _moment, _prefix = now, f"{now:012x}{_process}"
    return f"{_prefix}{next(_numbers) & 0xFFFFFFFF:08x}"


def random_below(bound: int) -> int:
    """Return an unpredictable integer in `range(bound)`."""
    return secrets.randbelow(bound)


def random_bytes(count: int) -> bytes:
    """Return `count` unpredictable bytes."""
    return secrets.token_bytes(count)


def environment() -> Mapping[str, str]:
    """Return a copy of the process's environment."""
    return dict(os.environ)


def machine_name() -> str:
    """Return this machine's hostname."""
    return socket.gethostname()


def read_text(path: str) -> str:
    """Read a small text file, such as one that holds a key.

    Raises:
        OSError, ValueError: the file cannot be read, or is not UTF-8.
    """
    return Path(path).expanduser().read_text(encoding="utf-8")


def shows_colors(stream: TextIO) -> bool:
    """Return whether a stream is a terminal with colours that NO_COLOR does not disable."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
