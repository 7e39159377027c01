"""Encoding of the events of a streamed response.

Each item has a start and an end event, and the last event repeats the whole response, which is buffered up to a limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, assert_never

from msgspec import Struct

from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.conversation import ClientTool, ReplyOptions, ToolCall
from ollama_router_core.translate.errors import StreamEventTooLarge
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.openai_responses.errors import failed_status
from ollama_router_core.translate.openai_responses.replies import (
    call_item,
    message_item,
    reasoning_item,
    response_object,
    text_part,
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
)
from ollama_router_core.translate.timestamps import call_id

__all__ = ["ResponsesWriter"]


_TEXT_DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":'
_SUMMARY = MappingProxyType({"summary_index": 0})
_CONTENT = MappingProxyType({"content_index": 0})


class _Call(Struct, frozen=True):
    """An open call; `index` is its number among the reply's calls."""

    index: int
    id: str
    name: str
    tool: ClientTool | None

    @property
    def is_custom(self) -> bool:
        return self.tool is not None and self.tool.custom


class ResponsesWriter:
    """Encode one response, buffering at most `max_bytes` of it."""

    def __init__(self, identity: ReplyIdentity, options: ReplyOptions, max_bytes: int) -> None:
        self._identity = identity
        self._options = options
        self._room = max_bytes
        self._sequence = 0
        self._output: list[dict[str, Any]] = []
        self._open: _Call | Literal["message", "reasoning"] | None = None
        self._ref: dict[str, Any] = {}
        self._pieces: list[str] = []
        self._signature = ""
        self._text_ref = b""

    def write(self, event: Event) -> bytes:
        """See `StreamWriter.write`."""
        match event:
            case TextDelta(text=text):
                written = self._write_text(text)
            case ThinkingDelta(text=text):
                written = self._write_thinking(text)
            case ThinkingSigned(signature=signature):
                written = self._begin_thinking()
                self._signature = signature
                written += self._end_item()
            case ToolCallDelta():
                written = self._write_call(event)
            case Started():
                written = self._start()
            case Finished():
                written = self._end_item() + self._final(event)
            case Failed(error=error):
                written = self._failed(error)
            case _:
                assert_never(event)
        return written

    def _event(self, name: str, fields: Mapping[str, Any]) -> bytes:
        kind = f"response.{name}"
        payload = encode({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: %s\ndata: %s\n\n" % (kind.encode("ascii"), payload)

    def _start(self) -> bytes:
        response = {"response": response_object(self._identity, self._options, output=[])}
        return self._event("created", response) + self._event("in_progress", response)

    def _buffer(self, text: str) -> None:
        self._pieces.append(text)
        self._room -= len(text) + 1
        if self._room < 0:
            raise StreamEventTooLarge("the answer is too long to be repeated at its end")

    def _begin(self, opened: _Call | Literal["message", "reasoning"], item: dict[str, Any]) -> bytes:
        self._open = opened
        self._ref = {"item_id": item["id"], "output_index": len(self._output)}
        return self._event("output_item.added", {"output_index": len(self._output), "item": item})

    def _write_text(self, text: str) -> bytes:
        """Return the event of a token; the bytes around it are built once, as most events are tokens."""
        written = b"" if self._open == "message" else self._begin_text()
        self._buffer(text)
        number = b"%d" % self._sequence
        self._sequence += 1
        return written + _TEXT_DELTA + number + self._text_ref + encode(text) + b"}\n\n"

    def _begin_text(self) -> bytes:
        written = self._end_item()
        written += self._begin("message", message_item(self._identity, len(self._output), [], "in_progress"))
        self._text_ref = b"," + encode({**self._ref, **_CONTENT, "logprobs": []})[1:-1] + b',"delta":'
        return written + self._event("content_part.added", {**self._ref, **_CONTENT, "part": text_part("")})

    def _write_thinking(self, text: str) -> bytes:
        written = self._begin_thinking()
        if not self._pieces:
            part = {"type": "summary_text", "text": ""}
            written += self._event("reasoning_summary_part.added", {**self._ref, **_SUMMARY, "part": part})
        self._buffer(text)
        return written + self._event("reasoning_summary_text.delta", {**self._ref, **_SUMMARY, "delta": text})

    def _begin_thinking(self) -> bytes:
        if self._open == "reasoning":
            return b""
        written = self._end_item()
        return written + self._begin("reasoning", reasoning_item(self._identity, len(self._output), "", ""))

    def _write_call(self, delta: ToolCallDelta) -> bytes:
        written = b""
        if not (isinstance(self._open, _Call) and self._open.index == delta.index):
            written = self._end_item()
            call = ToolCall(delta.id or call_id(self._identity, delta.index), delta.name, "")
            tool = self._options.tools.get(call.name)
            item = call_item(self._identity, len(self._output), call, tool, "in_progress")
            written += self._begin(_Call(delta.index, call.id, call.name, tool), item)
        return written + self._write_arguments(delta.arguments) if delta.arguments else written

    def _write_arguments(self, text: str) -> bytes:
        """Return the event of arguments; those of a free-text tool are buffered until their end."""
        self._buffer(text)
        if isinstance(self._open, _Call) and self._open.is_custom:
            return b""
        return self._event("function_call_arguments.delta", {**self._ref, "delta": text})

    def _end_item(self) -> bytes:
        if self._open is None:
            return b""
        index = len(self._output)
        match self._open:
            case "message":
                written = self._end_text()
                item = message_item(self._identity, index, [text_part("".join(self._pieces))])
            case "reasoning":
                written = self._end_summary() if self._pieces else b""
                item = reasoning_item(self._identity, index, "".join(self._pieces), self._signature)
            case _Call():
                written, item = self._end_call(self._open)
            case _:
                assert_never(self._open)
        self._open, self._pieces, self._signature = None, [], ""
        written += self._event("output_item.done", {"output_index": index, "item": item})
        self._output.append(item)
        return written

    def _end_call(self, call: _Call) -> tuple[bytes, dict[str, Any]]:
        # Clients parse the collected text, and an empty text is not JSON.
        written = b"" if self._pieces else self._write_arguments("{}")
        arguments = "".join(self._pieces)
        item = call_item(self._identity, len(self._output), ToolCall(call.id, call.name, arguments), call.tool)
        if call.is_custom:
            written += self._event("custom_tool_call_input.delta", {**self._ref, "delta": item["input"]})
            return written + self._event("custom_tool_call_input.done", {**self._ref, "input": item["input"]}), item
        return written + self._event("function_call_arguments.done", {**self._ref, "arguments": arguments}), item

    def _end_text(self) -> bytes:
        part, ref = text_part("".join(self._pieces)), {**self._ref, **_CONTENT}
        done = self._event("output_text.done", {**ref, "text": part["text"], "logprobs": []})
        return done + self._event("content_part.done", {**ref, "part": part})

    def _end_summary(self) -> bytes:
        text, ref = "".join(self._pieces), {**self._ref, **_SUMMARY}
        done = self._event("reasoning_summary_text.done", {**ref, "text": text})
        part = {"type": "summary_text", "text": text}
        return done + self._event("reasoning_summary_part.done", {**ref, "part": part})

    def _final(self, event: Finished) -> bytes:
        response = response_object(
            self._identity, self._options, output=self._output, finish=event.finish, usage=event.usage
        )
        return self._event(response["status"], {"response": response})

    def _failed(self, error: ApiError) -> bytes:
        response = response_object(self._identity, self._options, output=self._output)
        failed = {**response, "status": "failed", "error": failed_status(error)}
        return self._event("failed", {"response": failed})
