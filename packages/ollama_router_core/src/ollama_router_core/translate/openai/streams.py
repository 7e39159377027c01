"""The server-sent events of chat completions and completions, chunk by chunk."""

from __future__ import annotations

from typing import Any, assert_never

from ollama_router_core.translate.errors import UntranslatableReply
from ollama_router_core.translate.host_errors import failed_event
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.lenient_json import count_of, list_of, object_of, reply_object, text_of
from ollama_router_core.translate.openai.errors import write_stream_error
from ollama_router_core.translate.openai.replies import (
    content_text,
    head_fields,
    read_finish,
    read_timings,
    read_usage,
    reasoning_text,
    usage_fields,
)
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
)
from ollama_router_core.translate.streaming import ended_early
from ollama_router_core.translate.timestamps import call_id

__all__ = ["OpenAIReader", "OpenAIWriter"]


class OpenAIReader:
    """Reads the chunks of both routes.

    The end is `[DONE]`, or the end of the bytes once a finish reason came: not every look-alike says `[DONE]`.
    """

    def __init__(self) -> None:
        self._started = False
        self._finish: Any = None
        self._usage: Usage | None = None
        self._timings: Timings | None = None
        self._call = -1
        self._call_index = 0
        self._call_id = ""

    def read(self, payload: bytes) -> list[Event]:
        """See `StreamReader.read`."""
        if payload == b"[DONE]":
            return [self._finished()]
        chunk = reply_object(payload)
        if chunk.get("error") is not None:
            return [failed_event(chunk)]
        events: list[Event] = []
        if not self._started:
            self._started = True
            events.append(Started())
        if (usage := chunk.get("usage")) is not None:
            self._usage = read_usage(usage) or self._usage
        if "timings" in chunk:
            self._timings = read_timings(chunk["timings"])
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices:
            self._read_choice(object_of(choices[0]), events)
        return events

    def _read_choice(self, choice: dict[str, Any], events: list[Event]) -> None:
        if choice.get("index"):
            return
        delta = choice.get("delta")
        if isinstance(delta, dict):
            if ("reasoning_content" in delta or "reasoning" in delta) and (thinking := reasoning_text(delta)):
                events.append(ThinkingDelta(thinking))
            if text := content_text(delta):
                events.append(TextDelta(text))
            if "tool_calls" in delta:
                events.extend(self._read_call(object_of(entry)) for entry in list_of(delta["tool_calls"]))
        elif text := text_of(choice.get("text")):
            events.append(TextDelta(text))
        if (finish := choice.get("finish_reason")) is not None:
            self._finish = finish

    def _read_call(self, entry: dict[str, Any]) -> ToolCallDelta:
        """Read a delta of a call. Some look-alikes omit the index or leave it at 0: a new id is a new call."""
        function = object_of(entry.get("function"))
        given_id, name = text_of(entry.get("id")), text_of(function.get("name"))
        index = count_of(entry.get("index")) if "index" in entry else None
        arguments = text_of(function.get("arguments"))
        if self._continues(index, given_id, name):
            return ToolCallDelta(self._call, arguments=arguments)
        if index is not None and self._call >= 0 and index < self._call_index:
            raise UntranslatableReply("the server went back to an earlier tool call")
        self._call += 1
        self._call_index = index or 0
        self._call_id = given_id
        return ToolCallDelta(self._call, given_id, name, arguments)

    def _continues(self, index: int | None, given_id: str, name: str) -> bool:
        if self._call < 0 or index not in {None, self._call_index}:
            return False
        return given_id in {"", self._call_id} and not (index is None and name)

    def _finished(self) -> Finished:
        finish = read_finish(self._finish, called=self._call >= 0)
        return Finished(finish, usage=self._usage, timings=self._timings)

    def end(self) -> list[Event]:
        """See `StreamReader.end`."""
        if self._finish is None:
            raise ended_early()
        return [self._finished()]


class OpenAIWriter:
    """Writes the chunks of both routes; `include_usage` adds the usage chunk the client asked for."""

    def __init__(self, identity: ReplyIdentity, *, chat: bool, include_usage: bool) -> None:
        self._identity = identity
        self._chat = chat
        self._include_usage = include_usage
        self._head = head_fields(identity, "chat.completion.chunk" if chat else "text_completion")
        opening = b"data: " + encode(self._head)[:-1] + b',"choices":[{"index":0,'
        self._text_head = opening + (b'"delta":{"content":' if chat else b'"text":')
        usage = b',"usage":null' if include_usage else b""
        closing = b',"finish_reason":null}]' + usage + b"}\n\n"
        self._text_tail = b"}" + closing if chat else b',"logprobs":null' + closing
        self._call = -1
        self._bare_call = False

    def write(self, event: Event) -> bytes:
        """See `StreamWriter.write`."""
        match event:
            case TextDelta(text=text):
                written = self._close_call() + self._text_head + encode(text) + self._text_tail
            case ThinkingDelta(text=text):
                written = self._close_call() + self._delta({"reasoning": text}) if self._chat else b""
            case ThinkingSigned():
                written = b""
            case ToolCallDelta():
                written = self._write_call(event)
            case Started():
                written = self._delta({"role": "assistant", "content": ""}) if self._chat else b""
            case Finished():
                written = self._close_call() + self._final(event)
            case Failed(error=error):
                written = write_stream_error(error)
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

    def _write_call(self, delta: ToolCallDelta) -> bytes:
        if not self._chat:
            raise UntranslatableReply("the model called a tool, which /v1/completions cannot say")
        if delta.index == self._call:
            if not delta.arguments:
                return b""
            self._bare_call = False
            return self._delta({"tool_calls": [{"index": delta.index, "function": {"arguments": delta.arguments}}]})
        written = self._close_call()
        self._call = delta.index
        self._bare_call = not delta.arguments
        entry = {
            "index": delta.index,
            "id": delta.id or call_id(self._identity, delta.index),
            "type": "function",
            "function": {"name": delta.name, "arguments": delta.arguments},
        }
        return written + self._delta({"tool_calls": [entry]})

    def _close_call(self) -> bytes:
        """Give a call without arguments an empty object: clients parse what they collected."""
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
