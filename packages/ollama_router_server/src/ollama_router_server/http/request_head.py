"""Heads of requests that were let in, and recognising the next one that says the same.

A client that keeps its connection sends the same fields with every request; only the length of the body changes.
Such a head was parsed and judged before, and so is taken without the parser. As long as a connection is open its last
head is kept, the client's token in it included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["KnownHead", "RequestHead", "known_head"]

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_LONGEST: Final = 4 * 1024
_MOST_DIGITS: Final = 18


@dataclass(slots=True)
class RequestHead:
    """A head with field names in lower case.

    `note` is for whoever answers: what it found out about this head, which holds for every request with the same one.
    """

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    version: str
    keep_alive: bool
    note: Any = None


@dataclass(frozen=True, slots=True)
class KnownHead:
    """The bytes of a head around its Content-Length."""

    before: bytes
    after: bytes
    head: RequestHead

    def body(self, data: bytes, place: int) -> tuple[int, int] | None:
        """Where the body of a request that begins at `place` begins and ends; None unless its head is this one.

        None as well if the body is empty or not all of it is there.
        """
        if not data.startswith(self.before, place):
            return None
        first = place + len(self.before)
        stop = data.find(b"\r", first, first + _MOST_DIGITS + 1)
        if stop < 0 or not data.startswith(self.after, stop):
            return None
        digits = data[first:stop]
        begin = stop + len(self.after)
        end = begin + int(digits) if digits.isdigit() else 0
        return (begin, end) if begin < end <= len(data) else None


def known_head(data: bytes, head: RequestHead) -> KnownHead | None:
    """What recognises the same head again; None for one that is long, closes, or has no Content-Length."""
    found = _LENGTH.search(data) if len(data) <= _LONGEST and head.keep_alive else None
    return None if found is None else KnownHead(data[: found.start(1)], data[found.end(1) :], head)
