"""Native messages in the format of /v1/responses: items, parts and numbered events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollama_router_core.testing.dialect_messages import named_event
from ollama_router_core.testing.dialects import Dialect, openai_tool_calls
from ollama_router_core.testing.exchange import NO_CACHE

__all__ = ["Responses"]

Event = dict[str, Any]


class Responses(Dialect):
    """/v1/responses; `request` is echoed in part, `created` is in seconds since the epoch."""

    stream_headers = NO_CACHE

    def __init__(self, *, number: str, request: Mapping[str, Any], created: int) -> None:
        self._number = number
        self._request = request
        self._created = created
        self._sequence = 0
        self._thought = ""
        self._thinking_open = False
        self._text = ""
        self._calls: list[dict[str, Any]] = []
        self._index = 0

    def chunks(self, native: Mapping[str, Any]) -> list[bytes]:
        """Return the events of one native message, each flushed separately."""
        events: list[Event] = [] if self._sequence else self._opening()
        message = native.get("message", {})
        if message.get("thinking"):
            events += self._think(message["thinking"])
        if message.get("tool_calls"):
            events += [*self._end_thinking(), *self._call(message["tool_calls"])]
        elif message.get("content"):
            events += [*self._end_thinking(), *self._speak(message["content"])]
        if native.get("done"):
            events += [*self._end_thinking(), *self._end_text(), self._completed(native)]
        return [named_event(one["type"], _sorted_keys(self._numbered(one))) for one in events]

    def whole(self, native: Mapping[str, Any]) -> Any:
        """Build a completed `response`."""
        message = native.get("message", {})
        self._thought, self._text = message.get("thinking", ""), message.get("content", "")
        calls = openai_tool_calls(message.get("tool_calls", []))
        self._calls = [self._call_item(one) for one in calls]
        output = self._output() if self._text or self._calls else [*self._output(), self._text_item("completed")]
        return self._response("completed", output, native)

    def _numbered(self, event: Event) -> Event:
        self._sequence += 1
        return {**event, "sequence_number": self._sequence - 1}

    def _opening(self) -> list[Event]:
        response = self._response("in_progress", [], None)
        return [{"type": f"response.{one}", "response": response} for one in ("created", "in_progress")]

    def _think(self, text: str) -> list[Event]:
        events: list[Event] = []
        if not self._thought:
            self._thinking_open = True
            item = {"id": self._id("rs"), "type": "reasoning", "summary": []}
            events.append(self._item_event("added", item))
        self._thought += text
        return [*events, self._summary_event("delta", {"delta": text})]

    def _end_thinking(self) -> list[Event]:
        if not self._thinking_open:
            return []
        self._thinking_open = False
        events = [
            self._summary_event("done", {"text": self._thought}),
            self._item_event("done", self._thought_item()),
        ]
        self._index += 1
        return events

    def _speak(self, text: str) -> list[Event]:
        events: list[Event] = []
        if not self._text:
            events.append(self._item_event("added", self._text_item("in_progress")))
            events.append(self._part_event("content_part.added", {"part": _part("")}))
        self._text += text
        return [*events, self._part_event("output_text.delta", {"delta": text, "logprobs": []})]

    def _end_text(self) -> list[Event]:
        if not self._text or self._calls:
            return []
        return [
            self._part_event("output_text.done", {"text": self._text, "logprobs": []}),
            self._part_event("content_part.done", {"part": _part(self._text)}),
            self._item_event("done", self._text_item("completed")),
        ]

    def _call(self, native_calls: list[Mapping[str, Any]]) -> list[Event]:
        events: list[Event] = []
        for call in openai_tool_calls(native_calls):
            item = self._call_item(call)
            events += self._call_events(item)
            self._calls.append(item)
            self._index += 1
        return events

    def _call_events(self, item: dict[str, Any]) -> list[Event]:
        where = {"item_id": item["id"], "output_index": self._index}
        kind, arguments = "response.function_call_arguments", item["arguments"]
        return [
            self._item_event("added", {**item, "status": "in_progress", "arguments": ""}),
            {"type": f"{kind}.delta", **where, "delta": arguments},
            {"type": f"{kind}.done", **where, "arguments": arguments},
            self._item_event("done", item),
        ]

    def _completed(self, native: Mapping[str, Any]) -> Event:
        return {"type": "response.completed", "response": self._response("completed", self._output(), native)}

    def _output(self) -> list[dict[str, Any]]:
        thought = [self._thought_item()] if self._thought else []
        spoken = [self._text_item("completed")] if self._text and not self._calls else []
        return [*thought, *self._calls, *spoken]

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._number}"

    def _item_event(self, what: str, item: dict[str, Any]) -> Event:
        return {"type": f"response.output_item.{what}", "output_index": self._index, "item": item}

    def _summary_event(self, what: str, payload: dict[str, Any]) -> Event:
        where = {"item_id": self._id("rs"), "output_index": self._index, "summary_index": 0}
        return {"type": f"response.reasoning_summary_text.{what}", **where, **payload}

    def _part_event(self, kind: str, payload: dict[str, Any]) -> Event:
        where = {"item_id": self._id("msg"), "output_index": self._index, "content_index": 0}
        return {"type": f"response.{kind}", **where, **payload}

    def _thought_item(self) -> dict[str, Any]:
        summary = [{"type": "summary_text", "text": self._thought}]
        return {"id": self._id("rs"), "type": "reasoning", "summary": summary, "encrypted_content": self._thought}

    def _text_item(self, status: str) -> dict[str, Any]:
        content = [] if status == "in_progress" else [_part(self._text)]
        item = {"id": self._id("msg"), "type": "message", "status": status, "role": "assistant"}
        return {**item, "content": content}

    def _call_item(self, call: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": f"fc_{self._number}_{call['index']}",
            "type": "function_call",
            "status": "completed",
            "call_id": call["id"],
            "name": call["function"]["name"],
            "arguments": call["function"]["arguments"],
        }

    def _response(self, status: str, output: list[dict[str, Any]], native: Mapping[str, Any] | None) -> dict[str, Any]:
        request = self._request
        values = {
            **_CONSTANT,
            "id": self._id("resp"),
            "created_at": self._created,
            "completed_at": None if native is None else self._created,
            "status": status,
            "model": request.get("model", ""),
            "instructions": request.get("instructions") or None,
            "output": output,
            "tools": request.get("tools") or [],
            "truncation": request.get("truncation") or "disabled",
            "top_p": _number(request, "top_p"),
            "temperature": _number(request, "temperature"),
            "reasoning": request.get("reasoning") or None,
            "usage": None if native is None else _usage(native),
            "max_output_tokens": request.get("max_output_tokens"),
            "background": bool(request.get("background")),
        }
        return {key: values[key] for key in _ORDER}


_CONSTANT: dict[str, Any] = {
    "object": "response",
    "incomplete_details": None,
    "previous_response_id": None,
    "error": None,
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_logprobs": 0,
    "max_tool_calls": None,
    "store": False,
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
}


_ORDER = (
    *("id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id"),
    *("instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p"),
    *("presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage"),
    *("max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier"),
    "prompt_cache_key",
)


def _sorted_keys(value: Any) -> Any:
    """Sort keys alphabetically, as a stream's events are Go maps."""
    if isinstance(value, dict):
        return {key: _sorted_keys(value[key]) for key in sorted(value)}
    return [_sorted_keys(one) for one in value] if isinstance(value, list) else value


def _number(request: Mapping[str, Any], key: str) -> int | float:
    """Return a number from the request, default 1; whole numbers as integers, as in Go."""
    value = request.get(key)
    number = 1.0 if value is None else float(value)
    return int(number) if number.is_integer() else number


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(native: Mapping[str, Any]) -> dict[str, Any]:
    prompt, answer = native.get("prompt_eval_count", 0), native.get("eval_count", 0)
    return {
        "input_tokens": prompt,
        "output_tokens": answer,
        "total_tokens": prompt + answer,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
