"""What the readers and writers of streams have in common."""

from __future__ import annotations

from ollama_router_core.errors import UpstreamDisconnected
from ollama_router_core.translate.errors import UntranslatableReply
from ollama_router_core.translate.replies import ToolCallDelta

__all__ = ["ended_early", "next_call"]


def next_call(delta: ToolCallDelta, expected: int) -> int:
    """Return the number after the call that `delta` begins, for a dialect in which an ended call cannot go on.

    Raises:
        UntranslatableReply: the call was ended before.
    """
    if delta.index < expected:
        raise UntranslatableReply("the server went back to an earlier tool call")
    return delta.index + 1


def ended_early() -> UpstreamDisconnected:
    """Return the error for bytes that end before the answer does."""
    return UpstreamDisconnected("the server's answer ended before it was complete")
