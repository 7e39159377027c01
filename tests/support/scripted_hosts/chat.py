"""OpenAI's chat completions as its provider reads and writes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from support.scripted_hosts.script import Call, Picture, Said, Seen, Turn, check, settle

__all__ = ["picture_of_url", "read", "refusal", "stream", "whole"]

_ROLES = {"system", "developer", "user", "assistant", "tool"}


def read(route: str, body: Mapping[str, Any]) -> Seen:
    """The request, or `Refused`."""
    turns = [turn for message in body["messages"] if (turn := _turn(message))]
    tools = tuple(tool["function"]["name"] for tool in body.get("tools", ()))
    check(all(name and len(name) <= 64 for name in tools), "a tool needs a name of at most 64 characters")
    return Seen(route, body["model"], bool(body.get("stream")), settle(turns), tools, body)


def _turn(message: Mapping[str, Any]) -> Turn | None:
    role = message["role"]
    check(role in _ROLES, f"no such role: {role}")
    text, pictures = _content(message.get("content"))
    if role in {"system", "developer"}:
        check(text, "an empty system message")
        return None
    if role == "tool":
        check(not pictures, "a tool's message holds text only")
        return Turn(user=True, results={message["tool_call_id"]: text})
    calls = [
        Call(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or ()
    ]
    check(all(len(call.id) <= 40 for call in calls), "ids of calls have at most 40 characters")
    check(text or pictures or calls, f"an empty message of the {role}")
    return Turn(user=role == "user", text=text, pictures=pictures, calls=calls)


def _content(content: Any) -> tuple[str, list[Picture]]:
    if content is None or isinstance(content, str):
        return content or "", []
    texts, pictures = [], []
    for part in content:
        check(part["type"] in {"text", "image_url"}, f"no such part: {part['type']}")
        if part["type"] == "text":
            texts.append(part["text"])
        else:
            pictures.append(picture_of_url(part["image_url"]["url"]))
    return "\n".join(texts), pictures


def picture_of_url(url: str) -> Picture:
    """The image in a `data:` URL."""
    head, comma, data = url.partition(",")
    check(comma and head.startswith("data:image/") and head.endswith(";base64"), "an image is a data: URL in base64")
    return Picture.of(head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(data, validate=True))


_USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def whole(said: Said, seen: Seen) -> dict[str, Any]:
    """The answer in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said.pieces) or None}
    if said.call:
        message["tool_calls"] = [_call(said.call)]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if said.call else "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": seen.model}
    return {**head, "choices": [choice], "usage": _USAGE}


def stream(said: Said, seen: Seen) -> Iterator[bytes]:
    """The answer as events."""
    yield _chunk(seen, {"role": "assistant", "content": ""})
    for piece in said.pieces:
        yield _chunk(seen, {"content": piece})
    if said.call:
        first, rest = said.call.arguments[:3], said.call.arguments[3:]
        begun = Call(said.call.id, said.call.name, first)
        yield _chunk(seen, {"tool_calls": [{"index": 0, **_call(begun)}]})
        yield _chunk(seen, {"tool_calls": [{"index": 0, "function": {"arguments": rest}}]})
    yield _chunk(seen, {}, "tool_calls" if said.call else "stop")
    if (seen.body.get("stream_options") or {}).get("include_usage"):
        yield _event({**_head(seen), "choices": [], "usage": _USAGE})
    yield b"data: [DONE]\n\n"


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _head(seen: Seen) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": seen.model}


def _chunk(seen: Seen, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    return _event({**_head(seen), "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def refusal(text: str) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}
