"""Retry header fields of errors, as read by official clients.

`x-should-retry: false` stops the clients of OpenAI and Anthropic, which otherwise retry every 408, 409, 429 and 5xx;
`Retry-After` tells all clients when a retry may succeed. An error has one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from math import ceil
from typing import Final

from ollama_router_core.errors import (
    AccessError,
    ConfigError,
    ConnectFailed,
    LimitExceeded,
    ModelNotFound,
    ModelTooLarge,
    NoServerFits,
    Overloaded,
    PartlyDone,
    RefusedLate,
    RequestError,
    RouterError,
    SelectionError,
    StorageUnavailable,
    UpstreamError,
)

__all__ = ["RETRIES", "Retry", "retry_fields"]

_USUAL_WAIT = 5.0  # seconds


class Retry(Enum):
    """When a retry of the same request may succeed."""

    NEVER = "never"
    LATER = "later"
    UNSENT = "unsent"
    """Later, if no server can have started it."""


RETRIES: Final[Mapping[type[RouterError], Retry]] = {
    RouterError: Retry.NEVER,
    ConfigError: Retry.NEVER,
    RequestError: Retry.NEVER,
    AccessError: Retry.NEVER,
    LimitExceeded: Retry.LATER,
    SelectionError: Retry.LATER,
    ModelNotFound: Retry.NEVER,
    ModelTooLarge: Retry.NEVER,
    NoServerFits: Retry.LATER,
    Overloaded: Retry.UNSENT,
    UpstreamError: Retry.NEVER,
    ConnectFailed: Retry.LATER,
    PartlyDone: Retry.NEVER,
    RefusedLate: Retry.NEVER,
    StorageUnavailable: Retry.UNSENT,
}
"""By class; other classes inherit their parent's."""


def retry_fields(error: RouterError, *, sent: bool) -> tuple[tuple[bytes, bytes], ...]:
    """Return the header field that tells whether, or when, to retry.

    Args:
        error: the error reported to the client.
        sent: whether a server may have started the request.
    """
    retry = next(RETRIES[kind] for kind in type(error).__mro__ if kind in RETRIES)
    if retry is Retry.NEVER or (retry is Retry.UNSENT and sent):
        return ((b"x-should-retry", b"false"),)
    after = _USUAL_WAIT if error.retry_after is None else error.retry_after
    return ((b"retry-after", b"%d" % max(1, ceil(after))),)
