"""A host's answer into the client's dialect: whole, as a stream, or an error."""

from __future__ import annotations

from typing import Any, assert_never

from msgspec.structs import replace

from ollama_router_core.api.error_bodies import error_body
from ollama_router_core.errors import UpstreamError
from ollama_router_core.translate.anthropic import replies as anthropic
from ollama_router_core.translate.anthropic.streams import AnthropicReader, AnthropicWriter
from ollama_router_core.translate.dialects import Dialect
from ollama_router_core.translate.embeddings import read_vectors, write_vectors
from ollama_router_core.translate.errors import UntranslatableReply
from ollama_router_core.translate.framing import MAX_EVENT_BYTES, EventData, Frames, Lines
from ollama_router_core.translate.json_text import JsonError, encode
from ollama_router_core.translate.lenient_json import reply_object
from ollama_router_core.translate.ollama import replies as ollama
from ollama_router_core.translate.ollama.streams import OllamaReader, OllamaWriter
from ollama_router_core.translate.openai import replies as openai
from ollama_router_core.translate.openai.streams import OpenAIReader, OpenAIWriter
from ollama_router_core.translate.outgoing import ReplyOptions
from ollama_router_core.translate.private import Private
from ollama_router_core.translate.problems import read_problem
from ollama_router_core.translate.replies import (
    Event,
    Failed,
    Finished,
    Reply,
    Stamp,
    Started,
    TextDelta,
    ThinkingDelta,
    Timings,
    ToolCallDelta,
)
from ollama_router_core.translate.streaming import StreamReader, StreamWriter

__all__ = [
    "StreamTranslator",
    "TranslatedError",
    "stream_content_type",
    "translate_error",
    "translate_reply",
]

_DEFAULT_OPTIONS = ReplyOptions()


def translate_reply(
    body: bytes,
    *,
    source: Dialect,
    target: Dialect,
    stamp: Stamp,
    options: ReplyOptions = _DEFAULT_OPTIONS,
    elapsed_ns: int = 0,
) -> bytes:
    """Say in `target`, the client's dialect, what a host answered in `source`.

    `elapsed_ns` is how long the answer took, for an Ollama client of a host that does not say. In one and the same
    dialect the answer stays as it is.

    Raises:
        UntranslatableReply: the body is not an answer of `source`, or `target` cannot express it.
    """
    if source is target:
        return body
    value = reply_object(body)
    try:
        if source.embeds:
            vectors = read_vectors(value, source)
            vectors = replace(vectors, timings=vectors.timings or Timings(total_ns=elapsed_ns))
            return encode(write_vectors(vectors, target, stamp, as_base64=options.base64_vectors))
        reply = _read_reply(value, source)
        reply = replace(reply, timings=reply.timings or Timings(total_ns=elapsed_ns))
        return encode(_write_reply(reply, target, stamp))
    except JsonError as error:
        raise UntranslatableReply(f"the server's answer cannot be carried over: {error}") from None


def _read_reply(value: dict[str, Any], source: Dialect) -> Reply:
    match source:
        case Dialect.OLLAMA_CHAT:
            return ollama.read_chat_reply(value)
        case Dialect.OLLAMA_GENERATE:
            return ollama.read_generate_reply(value)
        case Dialect.OPENAI_CHAT:
            return openai.read_chat_reply(value)
        case Dialect.OPENAI_COMPLETIONS:
            return openai.read_completion_reply(value)
        case _:
            return anthropic.read_reply(value)


def _write_reply(reply: Reply, target: Dialect, stamp: Stamp) -> dict[str, Any]:
    match target:
        case Dialect.OLLAMA_CHAT:
            return ollama.write_chat_reply(reply, stamp)
        case Dialect.OLLAMA_GENERATE:
            return ollama.write_generate_reply(reply, stamp)
        case Dialect.OPENAI_CHAT:
            return openai.write_chat_reply(reply, stamp)
        case Dialect.OPENAI_COMPLETIONS:
            return openai.write_completion_reply(reply, stamp)
        case _:
            return anthropic.write_reply(reply, stamp)


class TranslatedError(Private, frozen=True, kw_only=True):
    """An error answer for the client. A host that refuses the router's own key is a 502 to the client, not a 401."""

    status: int
    body: bytes


def translate_error(status: int, body: bytes, *, target: Dialect, request_id: str) -> TranslatedError:
    """Put a host's error answer, in whatever shape it came, into the client's dialect. Never raises."""
    problem = read_problem(status, body)
    written = error_body(target.family, problem.status, problem.message, code=problem.code, request_id=request_id)
    return TranslatedError(status=problem.status, body=written)


def stream_content_type(dialect: Dialect) -> str:
    """The media type of a dialect's stream."""
    return "application/x-ndjson" if _is_lines(dialect) else "text/event-stream"


def _is_lines(dialect: Dialect) -> bool:
    return dialect in {Dialect.OLLAMA_CHAT, Dialect.OLLAMA_GENERATE}


class StreamTranslator:
    """Translates a stream as it comes, however its bytes are cut; holds at most one unfinished line or event.

    Nothing is raised: what goes wrong ends the client's stream with an error in its own dialect, and `failure` says
    what it was. Whoever relays the bytes then closes the client's connection without a proper end.

    Attributes:
        failure: why the stream ended before it was complete, None while all is well.
        done: whether the stream has ended, well or not; what comes after is ignored.
    """

    def __init__(
        self,
        source: Dialect,
        target: Dialect,
        *,
        stamp: Stamp,
        options: ReplyOptions = _DEFAULT_OPTIONS,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self.failure: UpstreamError | None = None
        self.done = False
        self._same = source is target
        self._frames: Frames = Lines(max_event_bytes) if _is_lines(source) else EventData(max_event_bytes)
        self._reader = _reader(source)
        self._writer = _writer(target, stamp, options, max_event_bytes)
        self._started = False
        self._first_ns: int | None = None

    def feed(self, data: bytes, *, elapsed_ns: int = 0) -> bytes:
        """The client's bytes for some of the host's. `elapsed_ns` is the time since the request was sent."""
        if self._same:
            return data
        return b"" if self.done else self._run(self._frames.feed(data), elapsed_ns, last=False)

    def finish(self, *, elapsed_ns: int = 0) -> bytes:
        """The client's last bytes when the host's have ended; an answer that was not complete is a failure."""
        return b"" if self._same or self.done else self._run(self._frames.end(), elapsed_ns, last=True)

    def abort(self, error: UpstreamError) -> bytes:
        """The client's last bytes when the host's connection failed: an error in the client's dialect."""
        if self.done:
            return b""
        self.failure = error
        self.done = True
        return self._writer.write(Failed(error.message, error.status_hint, error.code))

    def _run(self, payloads: list[bytes], elapsed_ns: int, *, last: bool) -> bytes:
        written: list[bytes] = []
        try:
            for payload in payloads:
                self._write_all(self._reader.read(payload), elapsed_ns, written)
            self._frames.check()
            if last:
                self._write_all(self._reader.end(), elapsed_ns, written)
        except UpstreamError as error:
            written.append(self.abort(error))
        except JsonError as error:
            written.append(self.abort(UntranslatableReply(f"the server's answer cannot be carried over: {error}")))
        return b"".join(written)

    def _write_all(self, events: list[Event], elapsed_ns: int, written: list[bytes]) -> None:
        for event in events:
            if self.done:
                return
            written.append(self._write(event, elapsed_ns))

    def _write(self, event: Event, elapsed_ns: int) -> bytes:
        match event:
            case TextDelta() | ThinkingDelta() | ToolCallDelta():
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
                # The client gets the server's own words; they may quote the prompt, so nobody else does.
                self.failure = UpstreamError("the server reported an error inside its stream")
                self.done = True
                return self._writer.write(event)
            case _:
                assert_never(event)

    def _begin(self, event: Started) -> bytes:
        """Exactly one beginning, whatever the host does about its own."""
        if self._started:
            return b""
        self._started = True
        return self._writer.write(event)

    def _timed(self, event: Finished, elapsed_ns: int) -> Finished:
        """What the router itself has measured, for a host that does not say how long it took."""
        if event.timings is not None:
            return event
        first = elapsed_ns if self._first_ns is None else self._first_ns
        timings = Timings(total_ns=elapsed_ns, prompt_eval_ns=first, eval_ns=elapsed_ns - first)
        return replace(event, timings=timings)


def _reader(source: Dialect) -> StreamReader:
    match source:
        case Dialect.OLLAMA_CHAT | Dialect.OLLAMA_GENERATE:
            return OllamaReader(chat=source is Dialect.OLLAMA_CHAT)
        case Dialect.ANTHROPIC_MESSAGES:
            return AnthropicReader()
        case _:
            return OpenAIReader()


def _writer(target: Dialect, stamp: Stamp, options: ReplyOptions, max_bytes: int) -> StreamWriter:
    match target:
        case Dialect.OLLAMA_CHAT | Dialect.OLLAMA_GENERATE:
            return OllamaWriter(stamp, chat=target is Dialect.OLLAMA_CHAT, max_bytes=max_bytes)
        case Dialect.ANTHROPIC_MESSAGES:
            return AnthropicWriter(stamp)
        case _:
            chat = target is Dialect.OPENAI_CHAT
            return OpenAIWriter(stamp, chat=chat, include_usage=options.include_usage)
