"""The server-sent events of chat completions and completions, chunk by chunk."""

from __future__ import annotations

from typing import Any, assert_never

from ollama_router_core.translate.conversation import ReplyOptions, Text, Thinking, ToolCall
from ollama_router_core.translate.errors import StreamEventTooLarge, UntranslatableReply
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.lenient_json import list_of, object_of, reply_object, text_of
from ollama_router_core.translate.openai.errors import write_stream_error
from ollama_router_core.translate.openai.reasoning import (
    CONTENT,
    DETAILS,
    Details,
    client_details,
    content_parts,
    member_signature,
    read_thoughts,
)
from ollama_router_core.translate.openai.replies import (
    extra_content,
    failure_in,
    head_fields,
    read_timings,
    read_usage,
    usage_fields,
    write_call,
)
from ollama_router_core.translate.openai.tool_deltas import ToolDeltas
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
    Usage,
    read_finish,
)
from ollama_router_core.translate.streaming import ended_early
from ollama_router_core.translate.timestamps import call_id

__all__ = ["OpenAIReader", "OpenAIWriter"]

_NO_CHOICE: dict[str, Any] = {}
_PLAIN = frozenset({"role", "content", "tool_calls", "refusal", "function_call"})
"""The members of a delta without reasoning."""


class OpenAIReader:
    """Parse the chunks of both routes.

    The end is `[DONE]`, or the end of the stream after a finish reason, as some compatible hosts send no `[DONE]`. An
    empty reason counts as none.
    """

    def __init__(self) -> None:
        self._started = False
        self._finish: Any = None
        self._usage: Usage | None = None
        self._timings: Timings | None = None
        self._calls = ToolDeltas()
        self._details = Details()
        self._member = ""

    def read(self, payload: bytes) -> list[Event]:
        """See `StreamReader.read`."""
        if payload[:1] != b"{":
            payload = payload.strip()
            if payload == b"[DONE]":
                return self._ended()
            if payload in {b"", b"null"}:
                return []
        chunk = reply_object(payload)
        choices = chunk.get("choices")
        choice = object_of(choices[0]) if isinstance(choices, list) and choices else _NO_CHOICE
        if (failed := failure_in(chunk, choice)) is not None:
            return [Failed(failed)]
        events: list[Event] = []
        if not self._started:
            self._started = True
            events.append(Started())
        if (usage := chunk.get("usage")) is not None:
            self._usage = read_usage(usage) or self._usage
        if "timings" in chunk:
            self._timings = read_timings(chunk["timings"])
        if choice and not choice.get("index"):
            self._read_choice(choice, events)
        return events

    def _read_choice(self, choice: dict[str, Any], events: list[Event]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            if not delta.keys() <= _PLAIN:
                self._read_thoughts(delta, events)
            content = delta.get("content")
            if isinstance(content, str):
                self._add_parts([Text(content)] if content else [], events)
            elif content or delta.get("refusal"):
                self._add_parts(content_parts(content or delta.get("refusal")), events)
            if "tool_calls" in delta:
                entries = delta["tool_calls"]
                for entry in [entries] if isinstance(entries, dict) else list_of(entries):
                    events.extend(self._proof())
                    events.append(self._calls.read(object_of(entry)))
            elif "function_call" in delta and isinstance(delta["function_call"], dict):
                events.append(self._calls.read({"function": delta["function_call"]}))
        elif text := text_of(choice.get("text")):
            events.append(TextDelta(text))
        if (finish := choice.get("finish_reason")) and finish != "null":
            self._finish = finish

    def _read_thoughts(self, delta: dict[str, Any], events: list[Event]) -> None:
        text, field = read_thoughts(delta)
        detailed = self._details.add(delta[DETAILS]) if DETAILS in delta else ""
        if field:
            self._member = field
        if thought := text or detailed:
            events.append(ThinkingDelta(thought))

    def _add_parts(self, parts: list[Text | Thinking], events: list[Event]) -> None:
        for part in parts:
            if isinstance(part, Thinking):
                self._member = CONTENT
                events.append(ThinkingDelta(part.text))
            else:
                events.extend(self._proof())
                events.append(TextDelta(part.text))

    def _proof(self) -> list[Event]:
        """Return the signature of the reasoning so far, once."""
        if not self._member and not self._details.proven:
            return []
        proof = self._details.proof() or (member_signature(self._member) if self._member else "")
        self._member = ""
        return [ThinkingSigned(proof)] if proof else []

    def _ended(self) -> list[Event]:
        finish = read_finish(self._finish, called=self._calls.any)
        return [*self._proof(), Finished(finish, usage=self._usage, timings=self._timings)]

    def end(self) -> list[Event]:
        """See `StreamReader.end`."""
        if not self._finish:
            raise ended_early()
        return self._ended()


class OpenAIWriter:
    """Encode the chunks of both routes; `include_usage` adds the requested usage chunk."""

    def __init__(self, identity: ReplyIdentity, options: ReplyOptions, max_bytes: int, *, chat: bool) -> None:
        self._identity = identity
        self._chat = chat
        self._options = options
        self._include_usage = include_usage = options.include_usage
        self._head = head_fields(identity, "chat.completion.chunk" if chat else "text_completion")
        opening = b"data: " + encode(self._head)[:-1] + b',"choices":[{"index":0,'
        self._text_head = opening + (b'"delta":{"content":' if chat else b'"text":')
        usage = b',"usage":null' if include_usage else b""
        closing = b',"finish_reason":null}]' + usage + b"}\n\n"
        self._text_tail = b"}" + closing if chat else b',"logprobs":null' + closing
        self._call = -1
        self._bare_call = False
        self._custom: ToolCallDelta | None = None
        self._input: list[str] = []
        self._max_bytes = self._room = max_bytes

    def write(self, event: Event) -> bytes:
        """See `StreamWriter.write`."""
        match event:
            case TextDelta(text=text):
                written = self._close_call() + self._text_head + encode(text) + self._text_tail
            case ThinkingDelta(text=text):
                written = self._close_call() + self._delta({"reasoning": text}) if self._chat else b""
            case ThinkingSigned(signature=signature):
                written = self._write_proof(signature) if self._chat else b""
            case ToolCallDelta():
                written = self._write_call(event)
            case Started():
                written = self._delta({"role": "assistant", "content": ""}) if self._chat else b""
            case Finished():
                written = self._close_call() + self._final(event)
            case Failed(error=error):
                written = write_stream_error(error, self._identity.id)
            case _:
                assert_never(event)
        return written

    def _delta(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        content: dict[str, Any] = {"delta": delta} if self._chat else {"text": "", "logprobs": None}
        choice = {"index": 0, **content, "finish_reason": finish}
        chunk = {**self._head, "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return _data(chunk)

    def _write_proof(self, signature: str) -> bytes:
        """Return a signature's chunk; it covers the reasoning since the last one."""
        return self._close_call() + self._delta({DETAILS: client_details([Thinking("", signature)])})

    def _write_call(self, delta: ToolCallDelta) -> bytes:
        if not self._chat:
            raise UntranslatableReply("the model called a tool, which /v1/completions cannot express")
        if delta.index == self._call:
            if self._custom is not None:
                self._buffer(delta.arguments)
                return b""
            if not delta.arguments:
                return b""
            self._bare_call = False
            return self._delta({"tool_calls": [{"index": delta.index, "function": {"arguments": delta.arguments}}]})
        written = self._close_call()
        self._call = delta.index
        if delta.name in self._options.tools:
            self._custom, self._input = delta, [delta.arguments]
            return written
        self._bare_call = not delta.arguments
        entry = {
            "index": delta.index,
            "id": delta.id or call_id(self._identity, delta.index),
            "type": "function",
            "function": {"name": delta.name, "arguments": delta.arguments},
            **extra_content(delta.signature),
        }
        return written + self._delta({"tool_calls": [entry]})

    def _buffer(self, text: str) -> None:
        self._input.append(text)
        self._room -= len(text) + 1
        if self._room < 0:
            raise StreamEventTooLarge(f"the arguments of a tool call are larger than {self._max_bytes} bytes")

    def _close_call(self) -> bytes:
        """Add an empty object to a call without arguments, as clients parse the collected text.

        A call of a free-text tool is sent whole, as its text is known only at the end.
        """
        if self._custom is not None:
            first, self._custom = self._custom, None
            call = ToolCall(first.id, first.name, "".join(self._input))
            entry = write_call(call, first.index, self._identity, self._options)
            return self._delta({"tool_calls": [{"index": first.index, **entry}]})
        if not self._bare_call:
            return b""
        self._bare_call = False
        return self._delta({"tool_calls": [{"index": self._call, "function": {"arguments": "{}"}}]})

    def _final(self, event: Finished) -> bytes:
        written = self._delta({}, event.finish.value)
        if self._include_usage:
            written += _data({**self._head, "choices": [], "usage": usage_fields(event.usage)})
        return written + b"data: [DONE]\n\n"


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + encode(value) + b"\n\n"
