"""OpenAI's Responses as its provider reads and writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from support.scripted_hosts.chat import picture_of_url, refusal
from support.scripted_hosts.script import Call, Picture, Said, Seen, Turn, check, settle

__all__ = ["read", "refusal", "stream", "whole"]


def read(route: str, body: Mapping[str, Any]) -> Seen:
    """The request, or `Refused`."""
    given = body["input"]
    items = [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given
    turns = [turn for item in items if (turn := _turn(item))]
    tools = tuple(tool["name"] for tool in body.get("tools", ()) if tool["type"] in {"function", "custom"})
    return Seen(route, body["model"], bool(body.get("stream")), settle(turns), tools, body)


def _turn(item: Mapping[str, Any]) -> Turn | None:
    match item.get("type", "message"):
        case "message":
            return _spoken(item)
        case "function_call":
            return Turn(user=False, calls=[Call(item["call_id"], item["name"], item["arguments"])])
        case "custom_tool_call":
            return Turn(user=False, calls=[Call(item["call_id"], item["name"], item["input"])])
        case "function_call_output" | "custom_tool_call_output":
            text, pictures = _content(item["output"], assistant=False)
            return Turn(user=True, results={item["call_id"]: text}, pictures=pictures)
        case kind:
            check(kind == "reasoning", f"no such item: {kind}")
            return None


def _spoken(item: Mapping[str, Any]) -> Turn | None:
    text, pictures = _content(item["content"], assistant=item["role"] == "assistant")
    check(text or pictures, f"an empty message of the {item['role']}")
    if item["role"] in {"system", "developer"}:
        return None
    return Turn(user=item["role"] == "user", text=text, pictures=pictures)


def _content(content: Any, *, assistant: bool) -> tuple[str, list[Picture]]:
    if isinstance(content, str):
        return content, []
    texts, pictures = [], []
    for part in content:
        allowed = {"output_text", "refusal"} if assistant else {"input_text", "input_image"}
        check(part["type"] in allowed, f"{part['type']} stands where one of {sorted(allowed)} may")
        if part["type"] == "input_image":
            pictures.append(picture_of_url(part["image_url"]))
        else:
            texts.append(part.get("text", ""))
    return "\n".join(texts), pictures


def whole(said: Said, seen: Seen) -> dict[str, Any]:
    """The answer in one piece."""
    item = _called(said.call) if said.call else _message("".join(said.pieces))
    return _response(seen, "completed", [item])


def stream(said: Said, seen: Seen) -> Iterator[bytes]:
    """The answer as events, numbered as OpenAI numbers them."""
    for number, event in enumerate(_events(said, seen)):
        data = json.dumps({**event, "sequence_number": number})
        yield f"event: {event['type']}\ndata: {data}\n\n".encode()


def _events(said: Said, seen: Seen) -> Iterator[dict[str, Any]]:
    yield {"type": "response.created", "response": _response(seen, "in_progress", [])}
    yield {"type": "response.in_progress", "response": _response(seen, "in_progress", [])}
    if said.call:
        item = _called(said.call)
        yield from _call_events(item)
    else:
        text = yield from _text_events(said.pieces)
        item = _message(text)
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": _response(seen, "completed", [item])}


def _call_events(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    place = {"item_id": item["id"], "output_index": 0}
    begun = {**item, "arguments": "", "status": "in_progress"}
    yield {"type": "response.output_item.added", "output_index": 0, "item": begun}
    for piece in (item["arguments"][:3], item["arguments"][3:]):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **place, "arguments": item["arguments"]}


def _text_events(pieces: Iterator[str]) -> Iterator[dict[str, Any]]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    begun = {**_message(""), "content": [], "status": "in_progress"}
    yield {"type": "response.output_item.added", "output_index": 0, "item": begun}
    yield {"type": "response.content_part.added", **place, "part": _part("")}
    text = ""
    for piece in pieces:
        text += piece
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": _part(text)}
    return text


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(text: str) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [_part(text)]}


def _called(call: Call) -> dict[str, Any]:
    return {
        "id": "fc_1",
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def _response(seen: Seen, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18, **details}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": seen.model,
        "output": output,
        "parallel_tool_calls": True,
        "store": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if status == "completed" else None,
    }
