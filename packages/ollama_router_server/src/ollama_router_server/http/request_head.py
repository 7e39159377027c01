"""The head of a request that was let in."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RequestHead"]


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A head as the strict front read it: names of fields in lower case, values without surrounding blanks."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    version: str
    keep_alive: bool
