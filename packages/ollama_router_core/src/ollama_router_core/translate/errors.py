"""What translation itself can object to.

RequestError
`-- UntranslatableRequest     untranslatable          400   the target dialect has no way to say this
UpstreamError
`-- UntranslatableReply       untranslatable_reply    502   the answer cannot be put into the client's dialect
`-- StreamEventTooLarge   stream_event_too_large  502   one line or event of a stream beyond the cap
"""

from __future__ import annotations

from ollama_router_core.errors import RequestError, UpstreamError

__all__ = ["StreamEventTooLarge", "UntranslatableReply", "UntranslatableRequest"]


class UntranslatableRequest(RequestError):
    """The request asks for something that the other dialect cannot express, or is not of its own dialect.

    The text names the place in the body and never its content.
    """

    code = "untranslatable"


class UntranslatableReply(UpstreamError):
    """The server's reply is not of the dialect it was asked in, or cannot be put into the client's."""

    code = "untranslatable_reply"


class StreamEventTooLarge(UntranslatableReply):
    """A line or event of a stream, or the arguments of one tool call, is larger than what may be held."""

    code = "stream_event_too_large"
