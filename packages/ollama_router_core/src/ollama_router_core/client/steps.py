"""What the policy asks its driver to do: the closed union of I/O steps, and what comes back.

Values, no I/O:

    a generator yields      the driver answers with
    Send(outgoing)          Head (the answer's head has arrived) or Failure (there is none)
    ReadBody(head, most)    the body's bytes, cut after `most`, or Failure
    Release(head)           None: the answer is closed
    Ask(outgoing)           Reply (a whole short answer) or Failure
    Background(jobs)        None: the jobs, generators that yield `Ask`, go on by themselves
    Wait(until, seconds)    None: `until()` holds, or the time is over
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from msgspec import Struct

from ollama_router_core.errors import UpstreamError, UpstreamProtocolError
from ollama_router_core.outbound.destinations import Destination, Fields

__all__ = [
    "LONGEST_FACTS",
    "Ask",
    "Background",
    "Failure",
    "Head",
    "Job",
    "Outgoing",
    "ReadBody",
    "Release",
    "Reply",
    "Send",
    "Step",
    "Wait",
    "unaskable",
]

LONGEST_FACTS = 64 * 1024 * 1024
"""Bytes of an answer about a server."""


class Outgoing(Struct, frozen=True, kw_only=True):
    """One request as it is sent.

    `library` is the module that it is built with (httpx or httpx2), `timeouts` are seconds as their `timeout`
    extension has them.
    """

    library: Any
    destination: Destination
    method: str
    target: str
    fields: Fields = ()
    body: bytes = b""
    timeouts: dict[str, float | None]

    def __repr__(self) -> str:
        """Without fields and body: they hold keys and what people write."""
        return f"Outgoing({self.method} {self.target} at {self.destination.name})"


class Head(Struct):
    """An answer whose head has arrived.

    `response` and its `stream` are the inner transport's, `lease` is its connection's if we lend it.
    """

    library: Any
    destination: Destination
    status: int
    response: Any
    stream: Any
    lease: Any = None


class Reply(Struct, frozen=True):
    """A whole short answer."""

    status: int
    body: bytes


class Failure(Struct, frozen=True):
    """No answer. `unsent` says that no connection came about; `original` is what the inner transport raised."""

    error: UpstreamError
    original: BaseException
    unsent: bool = False


class Send(Struct, frozen=True):
    """Send a request and wait for the head of its answer."""

    outgoing: Outgoing


class ReadBody(Struct, frozen=True):
    """Read an answer's body, at most about `most` bytes, and close it."""

    head: Head
    most: int


class Release(Struct, frozen=True):
    """Close an answer that nobody wants."""

    head: Head


class Ask(Struct, frozen=True):
    """One small exchange with a server, or a long one: then `feed` gets a good answer's pieces as they come.

    The reply to that has no body. When `feed` says False, nobody wants more of it.
    """

    outgoing: Outgoing
    feed: Callable[[bytes], bool] | None = None


Job = Generator[Ask, Reply | Failure, None]
"""Questions that run by themselves; whoever starts one closes it when it cannot go on."""


class Background(Struct, frozen=True):
    """Let jobs run at once, each by itself."""

    jobs: tuple[Job, ...]


class Wait(Struct, frozen=True):
    """Wait until something holds that background jobs bring about; it is looked at after each of their steps."""

    until: Callable[[], bool]
    seconds: float


Step = Send | ReadBody | Release | Background | Wait


def unaskable(outgoing: Outgoing, error: Exception) -> Failure:
    """An inner transport raised what no transport should: its server cannot be asked."""
    return Failure(UpstreamProtocolError(f"{outgoing.destination.name} cannot be asked: {type(error).__name__}"), error)
