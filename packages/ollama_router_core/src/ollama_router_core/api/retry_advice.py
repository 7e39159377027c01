"""Whether a refused request is worth sending again: what official clients read from an error's header fields.

`x-should-retry: false` stops the clients of OpenAI and Anthropic, which otherwise repeat every 408, 409, 429 and 5xx;
`Retry-After` tells them, and everybody else, when another try can succeed. An error has one of the two.
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
    """When sending the same request again can help."""

    NEVER = "never"
    LATER = "later"
    UNSENT = "unsent"
    """Later, if no server can have begun with it."""


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
"""By class; a class that is not listed has its parent's."""


def retry_fields(error: RouterError, *, sent: bool) -> tuple[tuple[bytes, bytes], ...]:
    """Return the one field that says whether, or when, to try again.

    Args:
        error: what the client is told.
        sent: whether a server may have begun with the request.
    """
    retry = next(RETRIES[kind] for kind in type(error).__mro__ if kind in RETRIES)
    if retry is Retry.NEVER or (retry is Retry.UNSENT and sent):
        return ((b"x-should-retry", b"false"),)
    after = _USUAL_WAIT if error.retry_after is None else error.retry_after
    return ((b"retry-after", b"%d" % max(1, ceil(after))),)
