"""The server-sent events of messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, assert_never

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.anthropic.errors import write_stream_error
from ollama_router_core.translate.anthropic.replies import (
    head_fields,
    read_usage,
    stop_fields,
    usage_fields,
)
from ollama_router_core.translate.arguments import are_whole, reply_arguments_text
from ollama_router_core.translate.call_ids import escaped_id
from ollama_router_core.translate.conversation import ReplyOptions
from ollama_router_core.translate.errors import StreamEventTooLarge
from ollama_router_core.translate.host_errors import failed_event, is_error_body
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.lenient_json import object_of, reply_object, text_of
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
from ollama_router_core.translate.signatures import own_redacted, read_redacted, read_signature, write_signature
from ollama_router_core.translate.streaming import (
    SAYS_NOTHING,
    ended_early,
    signature_events,
    text_events,
    thinking_events,
)
from ollama_router_core.translate.timestamps import call_id

__all__ = ["AnthropicReader", "AnthropicWriter"]

_EMPTY_THINKING = MappingProxyType({"type": "thinking", "thinking": "", "signature": ""})


class AnthropicReader:
    """Parse the events of messages. The end is `message_stop`, or the end of the stream after a stop reason."""

    def __init__(self) -> None:
        self._usage: dict[str, Any] | None = None
        self._stop: dict[str, Any] = {}
        self._calls: dict[str, int] = {}

    def read(self, payload: bytes) -> list[Event]:
        """See `StreamReader.read`."""
        if payload[:1] != b"{" and payload.strip() in SAYS_NOTHING:
            return []
        event = reply_object(payload)
        events: list[Event] = []
        match event.get("type"):
            case "content_block_delta":
                events = self._read_delta(event)
            case "content_block_start":
                events = self._read_start(event)
            case "message_start":
                self._add_usage(object_of(event.get("message")).get("usage"))
                usage = read_usage(self._usage)
                events = [Started(usage.input_tokens if usage else 0)]
            case "message_delta":
                self._add_usage(event.get("usage"))
                self._stop = {**self._stop, **object_of(event.get("delta"))}
            case "message_stop":
                events = [self._finished()]
            case "error":
                events = [failed_event(event)]
            case None if is_error_body(event):
                events = [failed_event(event)]
            case _:
                # `ping`, ends of blocks, and unknown events.
                pass
        return events

    def _add_usage(self, value: Any) -> None:
        """Merge running totals: a later count replaces an earlier one; a missing count keeps it."""
        if isinstance(value, dict):
            known = {key: count for key, count in value.items() if count is not None}
            self._usage = {**(self._usage or {}), **known}

    def _read_start(self, event: dict[str, Any]) -> list[Event]:
        block = object_of(event.get("content_block"))
        match block.get("type"):
            case "text":
                return text_events(block.get("text"))
            case "thinking":
                return thinking_events(block.get("thinking"))
            case "redacted_thinking":
                return signature_events(read_redacted(text_of(block.get("data"))))
            case "tool_use":
                number = self._calls[str(event.get("index"))] = len(self._calls)
                arguments = reply_arguments_text(block.get("input"))
                return [ToolCallDelta(number, text_of(block.get("id")), text_of(block.get("name")), arguments)]
            case _:
                return []

    def _read_delta(self, event: dict[str, Any]) -> list[Event]:
        delta = object_of(event.get("delta"))
        match delta.get("type"):
            case "text_delta":
                return text_events(delta.get("text"))
            case "thinking_delta":
                return thinking_events(delta.get("thinking"))
            case "signature_delta":
                return signature_events(read_signature(text_of(delta.get("signature")), Family.ANTHROPIC))
            case "input_json_delta":
                return self._read_arguments(event, text_of(delta.get("partial_json")))
            case _:
                return []

    def _read_arguments(self, event: dict[str, Any], text: str) -> list[Event]:
        number = self._calls.get(str(event.get("index")))
        return [] if number is None or not text else [ToolCallDelta(number, arguments=text)]

    def _finished(self) -> Finished:
        finish = read_finish(self._stop.get("stop_reason"), called=bool(self._calls))
        stop_sequence = text_of(self._stop.get("stop_sequence")) or None
        return Finished(finish, stop_sequence, read_usage(self._usage))

    def end(self) -> list[Event]:
        """See `StreamReader.end`."""
        if not self._stop.get("stop_reason"):
            raise ended_early()
        return [self._finished()]


class AnthropicWriter:
    """Encode the events of messages: blocks are started and ended one after the other."""

    def __init__(self, identity: ReplyIdentity, _options: ReplyOptions, max_bytes: int) -> None:
        self._identity = identity
        self._block = -1
        self._open: str | int | None = None
        self._text_head = b""
        self._arguments: list[str] = []
        self._room = max_bytes
        self._cut = False

    def write(self, event: Event) -> bytes:
        """See `StreamWriter.write`."""
        match event:
            case TextDelta(text=text):
                written = self._write_text(text)
            case ThinkingDelta(text=text):
                written = self._begin("thinking", _EMPTY_THINKING)
                written += self._delta({"type": "thinking_delta", "thinking": text})
            case ThinkingSigned(signature=signature):
                written = self._write_proof(signature)
            case ToolCallDelta():
                written = self._write_call(event)
            case Started(input_tokens=tokens):
                usage = {"input_tokens": tokens, "output_tokens": 0}
                message = {**head_fields(self._identity), "content": [], "stop_reason": None, "stop_sequence": None}
                written = _event("message_start", {"message": {**message, "usage": usage}})
            case Finished():
                written = self._end() + self._final(event)
            case Failed(error=error):
                written = write_stream_error(error, self._identity.id)
            case _:
                assert_never(event)
        return written

    def _write_proof(self, signature: str) -> bytes:
        if data := own_redacted(signature):
            return self._begin("redacted", {"type": "redacted_thinking", "data": data}) + self._end()
        written = self._begin("thinking", _EMPTY_THINKING)
        proof = write_signature(signature, Family.ANTHROPIC)
        return written + self._delta({"type": "signature_delta", "signature": proof}) + self._end()

    def _write_text(self, text: str) -> bytes:
        if self._open == "text":
            return self._text_head + encode(text) + b"}}\n\n"
        written = self._begin("text", {"type": "text", "text": ""})
        self._text_head = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"text_delta","text":' % self._block
        )
        return written + self._text_head + encode(text) + b"}}\n\n"

    def _begin(self, kind: str | int, block: Mapping[str, Any]) -> bytes:
        if self._open == kind:
            return b""
        written = self._end()
        self._block += 1
        self._open = kind
        return written + _event("content_block_start", {"index": self._block, "content_block": dict(block)})

    def _end(self) -> bytes:
        if self._open is None:
            return b""
        if isinstance(self._open, int):
            self._cut = self._cut or not are_whole("".join(self._arguments))
            self._arguments = []
        self._open = None
        return _event("content_block_stop", {"index": self._block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self._block, "delta": delta})

    def _write_call(self, delta: ToolCallDelta) -> bytes:
        call = escaped_id(delta.id or call_id(self._identity, delta.index))
        written = self._begin(delta.index, {"type": "tool_use", "id": call, "name": delta.name, "input": {}})
        if delta.arguments:
            self._buffer(delta.arguments)
            written += self._delta({"type": "input_json_delta", "partial_json": delta.arguments})
        return written

    def _buffer(self, text: str) -> None:
        """Buffer the arguments of the open call, to check whether they are complete."""
        self._arguments.append(text)
        self._room -= len(text)
        if self._room < 0:
            raise StreamEventTooLarge("the arguments of the answer's tool calls are too long")

    def _final(self, event: Finished) -> bytes:
        delta = stop_fields(cut_finish(event.finish, cut=self._cut), event.stop_sequence)
        last = _event("message_delta", {"delta": delta, "usage": usage_fields(event.usage)})
        return last + _event("message_stop", {})


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode("ascii"), encode({"type": name, **fields}))
