"""Who of a group does what has to be done by one: all reckon the same, and nobody has to ask."""

from __future__ import annotations

import zlib

__all__ = ["turn_of"]


def turn_of(subject: str, members: int, rank: int) -> int:
    """Return how many members come before the one with this rank, from 0, for a subject; the first does it.

    Subjects are spread over the members. Who comes later does it where nothing is heard of those before.
    """
    return (rank - zlib.crc32(subject.encode())) % max(1, members)
