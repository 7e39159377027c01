"""The NDJSON of `/api/chat` and `/api/generate`, chunk by chunk."""

from __future__ import annotations

from typing import Any, assert_never

from ollama_router_core.translate.arguments import are_whole
from ollama_router_core.translate.conversation import ReplyOptions, ToolCall
from ollama_router_core.translate.errors import StreamEventTooLarge, UntranslatableReply
from ollama_router_core.translate.host_errors import failed_event
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.lenient_json import list_of, object_of, reply_object, text_of
from ollama_router_core.translate.ollama.errors import write_stream_error
from ollama_router_core.translate.ollama.replies import (
    content_text,
    final_fields,
    head_fields,
    read_timings,
    read_tool_call,
    read_usage,
    write_tool_call,
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
    ToolCallDelta,
    cut_finish,
    read_finish,
)
from ollama_router_core.translate.streaming import ended_early

__all__ = ["OllamaReader", "OllamaWriter"]


class OllamaReader:
    """Parse the chunks of both routes; `chat` selects `/api/chat`."""

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat
        self._started = False
        self._calls = 0

    def read(self, payload: bytes) -> list[Event]:
        """See `StreamReader.read`."""
        chunk = reply_object(payload)
        if chunk.get("error") is not None:
            return [failed_event(chunk)]
        events: list[Event] = []
        if not self._started:
            self._started = True
            events.append(Started())
        message = object_of(chunk.get("message")) if self._chat else chunk
        if thinking := text_of(message.get("thinking")):
            events.append(ThinkingDelta(thinking))
        content = message.get("content" if self._chat else "response")
        if text := content if isinstance(content, str) else content_text(content):
            events.append(TextDelta(text))
        if "tool_calls" in message:
            events.extend(self._read_calls(message["tool_calls"]))
        if chunk.get("done") is True:
            finish = read_finish(chunk.get("done_reason"), called=self._calls > 0)
            events.append(Finished(finish, usage=read_usage(chunk), timings=read_timings(chunk)))
        return events

    def _read_calls(self, value: Any) -> list[Event]:
        events: list[Event] = []
        for entry in list_of(value):
            call = read_tool_call(entry)
            events.append(ToolCallDelta(self._calls, call.id, call.name, call.arguments))
            self._calls += 1
        return events

    def end(self) -> list[Event]:
        """See `StreamReader.end`: without `done` the reply is incomplete."""
        raise ended_early()


class OllamaWriter:
    """Encode the chunks of both routes. A tool call is buffered until it is complete, as Ollama sends whole calls."""

    def __init__(self, identity: ReplyIdentity, _options: ReplyOptions, max_bytes: int, *, chat: bool) -> None:
        self._identity = identity
        self._chat = chat
        self._max_bytes = max_bytes
        self._head = head_fields(identity)
        opening = encode(self._head)[:-1]
        text_key = b',"message":{"role":"assistant","content":' if chat else b',"response":'
        self._text_head = opening + text_key
        self._text_tail = b'},"done":false}\n' if chat else b',"done":false}\n'
        self._call: ToolCallDelta | None = None
        self._arguments: list[str] = []
        self._held = 0
        self._cut = False

    def write(self, event: Event) -> bytes:
        """See `StreamWriter.write`."""
        match event:
            case TextDelta(text=text):
                return self._close_call() + self._text_head + encode(text) + self._text_tail
            case ThinkingDelta(text=text):
                return self._close_call() + self._chunk({"thinking": text})
            case ToolCallDelta():
                return self._take_call(event)
            case Started() | ThinkingSigned():
                return b""
            case Finished():
                return self._close_call() + self._final(event)
            case Failed(error=error):
                return write_stream_error(error, self._identity.id)
            case _:
                assert_never(event)

    def _chunk(self, fields: dict[str, Any]) -> bytes:
        return encode({**self._head, **self._content(fields), "done": False}) + b"\n"

    def _content(self, fields: dict[str, Any]) -> dict[str, Any]:
        if self._chat:
            return {"message": {"role": "assistant", "content": "", **fields}}
        return {"response": "", **fields}

    def _final(self, event: Finished) -> bytes:
        head = head_fields(self._identity, event.timings)
        finish = cut_finish(event.finish, cut=self._cut)
        return encode({**head, **self._content({}), **final_fields(finish, event.usage, event.timings)}) + b"\n"

    def _take_call(self, delta: ToolCallDelta) -> bytes:
        if not self._chat:
            raise UntranslatableReply("the model called a tool, which /api/generate cannot express")
        written = b""
        if self._call is None or delta.index != self._call.index:
            written = self._close_call()
            self._call = delta
        self._arguments.append(delta.arguments)
        self._held += len(delta.arguments) + 1
        if self._held > self._max_bytes:
            raise StreamEventTooLarge(f"the arguments of a tool call are larger than {self._max_bytes} bytes")
        return written

    def _close_call(self) -> bytes:
        if self._call is None:
            return b""
        first = self._call
        call = ToolCall(first.id, first.name, "".join(self._arguments))
        self._call = None
        self._arguments = []
        self._held = 0
        self._cut = self._cut or not are_whole(call.arguments)
        return self._chunk({"tool_calls": [write_tool_call(call, first.index, self._identity)]})
