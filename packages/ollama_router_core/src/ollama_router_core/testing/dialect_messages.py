"""Native messages in the format of /v1/messages: Anthropic's content blocks and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollama_router_core.testing.dialects import Dialect
from ollama_router_core.testing.exchange import NO_CACHE
from ollama_router_core.testing.gojson import dumps

__all__ = ["Messages", "named_event"]


def named_event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return one server-sent event with a name."""
    return f"event: {name}\ndata: ".encode() + dumps(data) + b"\n\n"


class Messages(Dialect):
    """/v1/messages; `estimate` is the input token count sent before the real one is known."""

    stream_headers = NO_CACHE

    def __init__(self, *, identity: str, model: str, estimate: int) -> None:
        self._id = identity
        self._model = model
        self._estimate = estimate
        self._started = False
        self._index = 0
        self._open = ""
        self._called = False

    def chunks(self, native: Mapping[str, Any]) -> list[bytes]:
        """Return the events of one native message, each flushed separately."""
        events = [] if self._started else [self._start()]
        self._started = True
        message = native.get("message", {})
        if message.get("thinking"):
            events += self._delta("thinking", "thinking_delta", message["thinking"])
        if message.get("content"):
            events += self._delta("text", "text_delta", message["content"])
        for call in message.get("tool_calls", ()):
            events += self._tool_use(call)
        if native.get("done"):
            events += [*self._close(), *self._finish(native)]
        return [named_event(event["type"], event) for event in events]

    def whole(self, native: Mapping[str, Any]) -> Any:
        """Build a `message`."""
        message, content = native.get("message", {}), []
        if message.get("thinking"):
            content.append({"type": "thinking", "thinking": message["thinking"]})
        if message.get("content"):
            content.append({"type": "text", "text": message["content"]})
        for call in message.get("tool_calls", ()):
            function = call["function"]
            block = {"type": "tool_use", "id": call["id"], "name": function["name"]}
            content.append({**block, "input": function["arguments"]})
            self._called = True
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": native.get("model", ""),
            "content": content or None,
            "stop_reason": self._stop_reason(native),
            "usage": _usage(native),
        }

    def _start(self) -> dict[str, Any]:
        message = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "usage": {"input_tokens": self._estimate, "output_tokens": 0},
        }
        return {"type": "message_start", "message": message}

    def _delta(self, block: str, kind: str, text: str) -> list[dict[str, Any]]:
        events = []
        if self._open != block:
            events = [*self._close(), self._block_start({"type": block, block: ""})]
            self._open = block
        delta = {"type": kind, block: text}
        return [*events, {"type": "content_block_delta", "index": self._index, "delta": delta}]

    def _tool_use(self, call: Mapping[str, Any]) -> list[dict[str, Any]]:
        function = call["function"]
        block = {"type": "tool_use", "id": call["id"], "name": function["name"], "input": {}}
        arguments = dumps(function["arguments"]).decode()
        delta = {"type": "input_json_delta", "partial_json": arguments}
        events = [*self._close(), self._block_start(block)]
        self._open, self._called = "tool_use", True
        events.append({"type": "content_block_delta", "index": self._index, "delta": delta})
        return [*events, *self._close()]

    def _block_start(self, block: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_start", "index": self._index, "content_block": block}

    def _close(self) -> list[dict[str, Any]]:
        if not self._open:
            return []
        self._open = ""
        self._index += 1
        return [{"type": "content_block_stop", "index": self._index - 1}]

    def _finish(self, native: Mapping[str, Any]) -> list[dict[str, Any]]:
        delta = {"stop_reason": self._stop_reason(native)}
        return [
            {"type": "message_delta", "delta": delta, "usage": _usage(native)},
            {"type": "message_stop"},
        ]

    def _stop_reason(self, native: Mapping[str, Any]) -> str:
        if self._called:
            return "tool_use"
        return {"stop": "end_turn", "length": "max_tokens"}.get(native.get("done_reason", ""), "stop_sequence")


def _usage(native: Mapping[str, Any]) -> dict[str, int]:
    cached = native.get("prompt_eval_cached_count")
    return {
        "input_tokens": native.get("prompt_eval_count", 0),
        **({} if cached is None else {"cache_read_input_tokens": cached}),
        "output_tokens": native.get("eval_count", 0),
    }
