"""Translation of a host's stream into the client's dialect, event by event."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import assert_never

from msgspec.structs import replace

from ollama_router_core.errors import UpstreamError
from ollama_router_core.translate.answer_order import AnswerOrder, events_of_reply
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.codec import ConversationRoute
from ollama_router_core.translate.conversation import NO_REPLY_OPTIONS, ReplyOptions
from ollama_router_core.translate.errors import HostFailed, UntranslatableReply
from ollama_router_core.translate.framing import MAX_EVENT_BYTES, WholeText
from ollama_router_core.translate.json_text import JsonError
from ollama_router_core.translate.kept_thoughts import ThoughtsCollector, TurnThoughts
from ollama_router_core.translate.lenient_json import reply_object
from ollama_router_core.translate.registry import codec_of
from ollama_router_core.translate.replies import (
    Event,
    Failed,
    Finished,
    ReplyIdentity,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingSigned,
    Timings,
    ToolCallDelta,
)
from ollama_router_core.translate.timestamps import call_id

__all__ = ["StreamTranslator"]


class StreamTranslator:
    """Translate a stream as it arrives, in chunks of any size, buffering at most one incomplete line or event.

    Nothing is raised: an error ends the client's stream with an error event in its dialect, and sets `failure`. The
    client's connection must then be closed without a proper end.

    Attributes:
        failure: why the stream ended early; None without an error.
        done: whether the stream has ended, completely or not; later data is ignored.
    """

    def __init__(
        self,
        source: ConversationRoute,
        target: ConversationRoute,
        *,
        identity: ReplyIdentity,
        options: ReplyOptions = NO_REPLY_OPTIONS,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self.failure: UpstreamError | None = None
        self.done = False
        framing = codec_of(source.family).framing
        self._frames = framing.frames(max_event_bytes)
        self._source = source
        self._whole = None if framing.of_lines else WholeText(max_event_bytes)
        self._reader = source.stream_reader()
        self._order = AnswerOrder(max_event_bytes)
        self._thoughts = ThoughtsCollector(partial(call_id, identity))
        self._writer = target.stream_writer(identity, options, max_event_bytes)
        self._started = False
        self._first_ns: int | None = None

    @property
    def thoughts(self) -> TurnThoughts | None:
        """The reasoning before the calls of a complete reply, to store for the next turn, or None."""
        return self._thoughts.turn() if self.done and self.failure is None else None

    def feed(self, data: bytes, *, elapsed_ns: int = 0) -> bytes:
        """Translate a chunk of the host's stream. `elapsed_ns` is the time since the request was sent."""
        if self.done:
            return b""
        if self._whole is not None:
            try:
                data = self._whole.take(data)
            except UpstreamError as error:
                return self.abort(error)
            if not data:
                return b""
            self._whole = None
        return self._run(self._reader.read, self._frames.feed(data), elapsed_ns)

    def finish(self, *, elapsed_ns: int = 0) -> bytes:
        """Return the client's last bytes at the end of the host's stream; an incomplete reply is a failure."""
        if self.done:
            return b""
        if self._whole is not None and self._whole.begun:
            return self._run(self._read_whole, [self._whole.text()], elapsed_ns)
        return self._run(self._reader.read, self._frames.end(), elapsed_ns, last=True)

    def abort(self, error: UpstreamError) -> bytes:
        """Return the client's last bytes after a failed connection: an error in the client's dialect."""
        if self.done:
            return b""
        self.failure = error
        self.done = True
        return self._writer.write(Failed(ApiError(message=error.message, status=error.status_hint, code=error.code)))

    def _read_whole(self, text: bytes) -> list[Event]:
        """Return the events of a reply that the host sent whole."""
        return events_of_reply(self._source.read_reply(reply_object(text)))

    def _run(
        self, read: Callable[[bytes], list[Event]], payloads: list[bytes], elapsed_ns: int, *, last: bool = False
    ) -> bytes:
        written: list[bytes] = []
        try:
            for payload in payloads:
                self._write_all(read(payload), elapsed_ns, written)
            self._frames.check()
            if last:
                self._write_all(self._reader.end(), elapsed_ns, written)
        except HostFailed as error:
            written.append(self._write(Failed(error.error), elapsed_ns))
        except UpstreamError as error:
            written.append(self.abort(error))
        except JsonError as error:
            written.append(self.abort(UntranslatableReply(f"the server's answer cannot be translated: {error}")))
        return b"".join(written)

    def _write_all(self, events: list[Event], elapsed_ns: int, written: list[bytes]) -> None:
        for event in events:
            for ordered in self._order.take(event):
                if self.done:
                    return
                written.append(self._write(ordered, elapsed_ns))

    def _write(self, event: Event, elapsed_ns: int) -> bytes:
        match event:
            case TextDelta() | ThinkingDelta() | ThinkingSigned() | ToolCallDelta():
                if not isinstance(event, TextDelta):
                    self._thoughts.add(event)
                if self._first_ns is not None:
                    return self._writer.write(event)
                self._first_ns = elapsed_ns
                return self._begin(Started()) + self._writer.write(event)
            case Started():
                return self._begin(event)
            case Finished():
                written = self._begin(Started()) + self._writer.write(self._timed(event, elapsed_ns))
                self.done = True
                return written
            case Failed():
                # Only the client gets the server's text, as it may quote the prompt.
                self.failure = HostFailed(event.error)
                self.done = True
                return self._writer.write(event)
            case _:
                assert_never(event)

    def _begin(self, event: Started) -> bytes:
        """Return the start event once, however many the host sends."""
        if self._started:
            return b""
        self._started = True
        return self._writer.write(event)

    def _timed(self, event: Finished, elapsed_ns: int) -> Finished:
        """Add the router's measurements if the host reports no durations."""
        if event.timings is not None:
            return event
        first = elapsed_ns if self._first_ns is None else self._first_ns
        timings = Timings(total_ns=elapsed_ns, prompt_eval_ns=first, eval_ns=elapsed_ns - first)
        return replace(event, timings=timings)
