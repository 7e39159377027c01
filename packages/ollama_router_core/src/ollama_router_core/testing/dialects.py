"""Native messages in a client's format: Ollama's own and OpenAI's two older ones.

A dialect encodes each native message as HTTP chunks. The stateful event streams are in `dialect_messages` and
`dialect_responses`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from ollama_router_core.testing.exchange import JSON, JSON_UTF8, NDJSON, SSE
from ollama_router_core.testing.gojson import dumps

__all__ = ["ChatCompletions", "Completions", "Dialect", "Native", "openai_tool_calls"]


class Dialect(ABC):
    """The wire format of a response; the defaults are those of /v1."""

    stream_type = SSE
    stream_headers: tuple[tuple[str, str], ...] = ()
    whole_type = JSON

    @abstractmethod
    def chunks(self, native: Mapping[str, Any]) -> list[bytes]:
        """Return the HTTP chunks for one native message of a stream."""

    @abstractmethod
    def whole(self, native: Mapping[str, Any]) -> Any:
        """Return the JSON of a response that is not streamed."""

    def failure(self, message: str) -> list[bytes]:  # noqa: ARG002 - the text is lost on /v1, as in Ollama
        """Return the HTTP chunks for an error in the middle of a stream: those of an empty message on /v1."""
        return self.chunks({})


class Native(Dialect):
    """Ollama's NDJSON."""

    stream_type = NDJSON
    whole_type = JSON_UTF8

    def chunks(self, native: Mapping[str, Any]) -> list[bytes]:
        """Return one line."""
        return [dumps(native) + b"\n"]

    def whole(self, native: Mapping[str, Any]) -> Any:
        """Return the message itself."""
        return native

    def failure(self, message: str) -> list[bytes]:
        """Return an error line, as the status has been sent."""
        return [dumps({"error": message}) + b"\n"]


class _OpenAI(Dialect):
    def __init__(self, *, identity: str, include_usage: bool, created: int) -> None:
        self._id = identity
        self._include_usage = include_usage
        self._created = created

    def _envelope(self, kind: str, native: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": native.get("model", ""),
            "system_fingerprint": "fp_ollama",
        }

    def _finish(self, chunk: dict[str, Any], native: Mapping[str, Any]) -> list[bytes]:
        """Return the chunk; the last one is followed by the usage and the end mark in the same write."""
        data = _event(chunk)
        if native.get("done"):
            if self._include_usage:
                data += _event({**chunk, "choices": [], "usage": _usage(native)})
            data += b"data: [DONE]\n\n"
        return [data]


class ChatCompletions(_OpenAI):
    """/v1/chat/completions."""

    _called = False
    _spoke = False

    def chunks(self, native: Mapping[str, Any]) -> list[bytes]:
        """Build a `chat.completion.chunk`; only the first one has the role."""
        delta = self._message(native)
        if self._spoke:
            del delta["role"]
            if native.get("done") and not delta["content"]:
                del delta["content"]
        self._spoke = True
        self._called = self._called or "tool_calls" in delta
        reason = native.get("done_reason") or None
        choice = {"index": 0, "delta": delta, "finish_reason": self._reason(reason)}
        chunk = {**self._envelope("chat.completion.chunk", native), "choices": [choice]}
        return self._finish(chunk, native)

    def whole(self, native: Mapping[str, Any]) -> Any:
        """Build a `chat.completion`."""
        message = self._message(native)
        self._called = "tool_calls" in message
        reason = native.get("done_reason") or None
        choice = {"index": 0, "message": message, "finish_reason": self._reason(reason)}
        envelope = self._envelope("chat.completion", native)
        return {**envelope, "choices": [choice], "usage": _usage(native)}

    def _reason(self, reason: str | None) -> str | None:
        return "tool_calls" if reason and self._called else reason

    def _message(self, native: Mapping[str, Any]) -> dict[str, Any]:
        message = native.get("message", {})
        shown: dict[str, Any] = {"role": "assistant", "content": message.get("content", "")}
        if message.get("thinking"):
            shown["reasoning"] = message["thinking"]
        if message.get("tool_calls"):
            shown["tool_calls"] = openai_tool_calls(message["tool_calls"])
        return shown


class Completions(_OpenAI):
    """/v1/completions."""

    def chunks(self, native: Mapping[str, Any]) -> list[bytes]:
        """Build a `text_completion` chunk; with usage, every chunk before the last has zeros."""
        envelope = self._envelope("text_completion", native)
        last = {key: envelope.pop(key) for key in ("model", "system_fingerprint")}
        chunk = {**envelope, "choices": [self._choice(native)], **last}
        if self._include_usage:
            chunk["usage"] = _usage({})
        return self._finish(chunk, native)

    def whole(self, native: Mapping[str, Any]) -> Any:
        """Build a `text_completion`."""
        envelope = self._envelope("text_completion", native)
        return {**envelope, "choices": [self._choice(native)], "usage": _usage(native)}

    def _choice(self, native: Mapping[str, Any]) -> dict[str, Any]:
        reason = native.get("done_reason") or None
        return {"text": native.get("response", ""), "index": 0, "finish_reason": reason}


def _usage(native: Mapping[str, Any]) -> dict[str, Any]:
    """Build the `usage` object of a final native message."""
    prompt, answer = native.get("prompt_eval_count", 0), native.get("eval_count", 0)
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    if "prompt_eval_cached_count" in native:
        usage["prompt_tokens_details"] = {"cached_tokens": native["prompt_eval_cached_count"]}
    return usage


def openai_tool_calls(calls: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Convert native tool calls to OpenAI's format, with the arguments as text."""
    return [
        {
            "id": call["id"],
            "index": call["function"]["index"],
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": json.dumps(call["function"]["arguments"], separators=(",", ":")),
            },
        }
        for call in calls
    ]


def _event(value: Any) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"
