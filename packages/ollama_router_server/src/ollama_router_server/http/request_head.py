"""The head of an accepted request."""

from __future__ import annotations

import msgspec

__all__ = ["RequestHead"]


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """A head as parsed by the strict parser.

    Attributes:
        method: in upper case.
        target: path and query as sent.
        headers: names in lower case, values without surrounding whitespace.
        version: `1.1` or `1.0`.
        keep_alive: whether another request may follow on the connection.
        expects_continue: whether the client waits for `100 Continue` before it sends the body.
    """

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    version: str
    keep_alive: bool
    expects_continue: bool = False
