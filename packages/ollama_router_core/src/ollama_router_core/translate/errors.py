"""What translation itself can object to.

RequestError
`-- UntranslatableRequest     untranslatable          400   the target dialect has no way to say this
UpstreamError
|-- HostFailed              host_failed             502   the host's own error, inside an answer that began well
`-- UntranslatableReply       untranslatable_reply    502   the answer cannot be put into the client's dialect
`-- StreamEventTooLarge   stream_event_too_large  502   one line or event of a stream beyond the cap
"""

from __future__ import annotations

from ollama_router_core.errors import RequestError, UpstreamError
from ollama_router_core.translate.api_errors import ApiError

__all__ = ["HostFailed", "StreamEventTooLarge", "UntranslatableReply", "UntranslatableRequest"]


class UntranslatableRequest(RequestError):
    """The request asks for something that the other dialect cannot express, or is not of its own dialect.

    The text names the place in the body and never its content.
    """

    code = "untranslatable"


class HostFailed(UpstreamError):
    """A host answered with the status 200 and an error; `error` is for the client alone: it may quote the prompt."""

    code = "host_failed"

    def __init__(self, error: ApiError) -> None:
        super().__init__("the server reported an error inside its answer")
        self.error = error


class UntranslatableReply(UpstreamError):
    """The server's reply is not of the dialect it was asked in, or cannot be put into the client's."""

    code = "untranslatable_reply"


class StreamEventTooLarge(UntranslatableReply):
    """A line or event of a stream, or the arguments of one tool call, is larger than what may be held."""

    code = "stream_event_too_large"
