"""The two sides of a stream's translation."""

from __future__ import annotations

from typing import Protocol

from ollama_router_core.api.endpoints import Family
from ollama_router_core.api.error_bodies import error_tail
from ollama_router_core.errors import UpstreamDisconnected
from ollama_router_core.translate.errors import UntranslatableReply
from ollama_router_core.translate.replies import Event, Failed, Stamp, ToolCallDelta

__all__ = ["StreamReader", "StreamWriter", "ended_early", "failure_tail", "next_call"]


class StreamReader(Protocol):
    """Makes events of a server's stream; after `Finished` or `Failed` nothing it gives counts."""

    def read(self, payload: bytes) -> list[Event]:
        """The events of one line or of one event's data.

        Raises:
            UntranslatableReply: the payload is not of the dialect.
        """
        ...

    def end(self) -> list[Event]:
        """The `Finished` that the end of the bytes means.

        Raises:
            UpstreamDisconnected: the answer was not complete.
        """
        ...


class StreamWriter(Protocol):
    """Writes events as a client's stream."""

    def write(self, event: Event) -> bytes:
        """The bytes of an event, empty when the dialect says it later or not at all.

        Raises:
            UntranslatableReply: the dialect cannot say it.
        """
        ...


def next_call(delta: ToolCallDelta, expected: int) -> int:
    """The number after the call that `delta` begins, for a dialect in which an ended call cannot go on.

    Raises:
        UntranslatableReply: the call was ended before.
    """
    if delta.index < expected:
        raise UntranslatableReply("the server went back to an earlier tool call")
    return delta.index + 1


def ended_early() -> UpstreamDisconnected:
    """The error for bytes that end before the answer does."""
    return UpstreamDisconnected("the server's answer ended before it was complete")


def failure_tail(event: Failed, family: Family, stamp: Stamp) -> bytes:
    """The last bytes of a stream that cannot go on."""
    return error_tail(family, event.status, event.message, code=event.code, request_id=stamp.id)
