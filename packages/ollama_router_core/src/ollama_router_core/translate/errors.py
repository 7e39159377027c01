"""Errors of translation.

RequestError
`-- UntranslatableRequest     untranslatable          400   the target dialect cannot express this
UpstreamError
|-- HostFailed              host_failed             502   the host's error within a successful response
`-- UntranslatableReply       untranslatable_reply    502   the reply cannot be expressed in the client's dialect
`-- StreamEventTooLarge   stream_event_too_large  502   a line or event of a stream exceeds the limit
"""

from __future__ import annotations

from ollama_router_core.errors import RequestError, UpstreamError
from ollama_router_core.translate.api_errors import ApiError

__all__ = ["HostFailed", "StreamEventTooLarge", "UntranslatableReply", "UntranslatableRequest"]


class UntranslatableRequest(RequestError):
    """The request is invalid in its dialect, or cannot be expressed in the other one.

    The text names the path in the body, never its content.
    """

    code = "untranslatable"


class HostFailed(UpstreamError):
    """A host reported an error with the status 200; `error` is only for the client, as it may quote the prompt."""

    code = "host_failed"

    def __init__(self, error: ApiError) -> None:
        super().__init__("the server reported an error inside its answer")
        self.error = error


class UntranslatableReply(UpstreamError):
    """The server's reply is invalid in its dialect, or cannot be expressed in the client's."""

    code = "untranslatable_reply"


class StreamEventTooLarge(UntranslatableReply):
    """A line or event of a stream, or the arguments of a tool call, exceed the buffer limit."""

    code = "stream_event_too_large"
