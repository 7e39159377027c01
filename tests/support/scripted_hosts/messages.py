"""Anthropic's Messages as its provider reads and writes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from support.scripted_hosts.script import Call, Picture, Said, Seen, Turn, check, settle

__all__ = ["read", "refusal", "stream", "whole"]


def read(route: str, body: Mapping[str, Any]) -> Seen:
    """The request, or `Refused`."""
    check(isinstance(body.get("max_tokens"), int), "max_tokens: Field required")
    messages = body["messages"]
    check(all(message["role"] in {"user", "assistant"} for message in messages), "roles are user and assistant")
    turns = [_turn(message) for message in messages]
    tools = tuple(tool["name"] for tool in body.get("tools", ()) if "input_schema" in tool)
    return Seen(route, body["model"], bool(body.get("stream")), settle(turns), tools, body)


def _turn(message: Mapping[str, Any]) -> Turn:
    turn = Turn(user=message["role"] == "user")
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    check(blocks, "messages need content")
    kinds = [block["type"] for block in blocks]
    results = kinds.count("tool_result")
    check(kinds[:results] == ["tool_result"] * results, "tool_result blocks come first")
    for block in blocks:
        _read_block(block, turn)
    return turn


def _read_block(block: Mapping[str, Any], turn: Turn) -> None:
    match block["type"]:
        case "text":
            check(block["text"].strip(), "text content blocks must contain non-whitespace text")
            turn.text = "\n".join(filter(None, (turn.text, block["text"])))
        case "image":
            turn.pictures.append(_picture(block))
        case "tool_use":
            check(isinstance(block["input"], dict), "tool_use.input is an object")
            turn.calls.append(Call(block["id"], block["name"], json.dumps(block["input"])))
        case "tool_result":
            turn.results[block["tool_use_id"]] = _result(block.get("content", ""), turn)
        case "thinking" | "redacted_thinking":
            pass
        case other:
            check(False, f"no such block: {other}")


def _result(content: Any, turn: Turn) -> str:
    if isinstance(content, str):
        return content
    turn.pictures += [_picture(part) for part in content if part["type"] == "image"]
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _picture(block: Mapping[str, Any]) -> Picture:
    source = block["source"]
    check(source["type"] == "base64", "an image is in base64")
    check(source["media_type"] in {"image/png", "image/jpeg", "image/gif", "image/webp"}, "no such type of image")
    return Picture.of(source["media_type"], base64.b64decode(source["data"], validate=True))


def whole(said: Said, seen: Seen) -> dict[str, Any]:
    """The answer in one piece."""
    if said.call:
        content = [{**_begun(said.call), "input": json.loads(said.call.arguments)}]
    else:
        content = [{"type": "text", "text": "".join(said.pieces)}]
    return {**_message(seen), "content": content, "stop_reason": "tool_use" if said.call else "end_turn"}


def stream(said: Said, seen: Seen) -> Iterator[bytes]:
    """The answer as events."""
    for event in _events(said, seen):
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _events(said: Said, seen: Seen) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": _message(seen)}
    block = _begun(said.call) if said.call else {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "ping"}
    if said.call:
        for piece in ("", said.call.arguments[:3], said.call.arguments[3:]):
            yield _delta({"type": "input_json_delta", "partial_json": piece})
    for piece in said.pieces:
        yield _delta({"type": "text_delta", "text": piece})
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "tool_use" if said.call else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 7}}
    yield {"type": "message_stop"}


def _delta(delta: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def _begun(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}


def _message(seen: Seen) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": seen.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 7},
    }


def refusal(text: str) -> dict[str, Any]:
    """The body of an error."""
    return {"type": "error", "error": {"type": "invalid_request_error", "message": text}}
