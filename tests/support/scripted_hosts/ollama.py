"""Ollama's /api/chat as a server of it reads and writes it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from support.scripted_hosts.script import Call, Picture, Said, Seen, Turn, check, settle

__all__ = ["read", "refusal", "show", "spoken_by_two", "stream", "tags", "whole"]

_PNG = b"\x89PNG\r\n\x1a\n"
_DIGEST = "5" * 64


def read(route: str, body: Mapping[str, Any]) -> Seen:
    """The request, or `Refused`."""
    pending: list[Call] = []
    turns = [turn for message in body["messages"] if (turn := _turn(message, pending))]
    tools = tuple(tool["function"]["name"] for tool in body.get("tools") or ())
    return Seen(route, body["model"], body.get("stream") is not False, settle(turns), tools, body)


def _turn(message: Mapping[str, Any], pending: list[Call]) -> Turn | None:
    """Give calls ids by their order where they have none, as results come in the order of the calls."""
    text = message.get("content", "")
    check(isinstance(text, str), "content is a string")
    pictures = [_picture(image) for image in message.get("images") or ()]
    match message["role"]:
        case "system":
            return None
        case "tool":
            check(pending, "a result without a call")
            return Turn(user=True, results={pending.pop(0).id: text}, pictures=pictures)
        case "assistant":
            pending[:] = [_call(call, place) for place, call in enumerate(message.get("tool_calls") or ())]
            return Turn(user=False, text=text, calls=list(pending))
        case role:
            check(role == "user", f"no such role: {role}")
            return Turn(user=True, text=text, pictures=pictures)


def _call(call: Mapping[str, Any], place: int) -> Call:
    function = call["function"]
    check(isinstance(function["arguments"], dict), "arguments are an object")
    return Call(call.get("id") or f"at-{place}", function["name"], json.dumps(function["arguments"]))


def _picture(data: str) -> Picture:
    image = base64.b64decode(data, validate=True)
    return Picture.of("image/png" if image.startswith(_PNG) else "image/jpeg", image)


def whole(said: Said, seen: Seen) -> dict[str, Any]:
    """The answer in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said.pieces)}
    if said.call:
        message["tool_calls"] = [_called(said.call)]
    return {**_head(seen), "message": message, **_done()}


def stream(said: Said, seen: Seen) -> Iterator[bytes]:
    """The answer as lines."""
    for piece in said.pieces:
        yield _line({**_head(seen), "message": {"role": "assistant", "content": piece}, "done": False})
    if said.call:
        message = {"role": "assistant", "content": "", "tool_calls": [_called(said.call)]}
        yield _line({**_head(seen), "message": message, "done": False})
    yield _line({**_head(seen), "message": {"role": "assistant", "content": ""}, **_done()})


def _called(call: Call) -> dict[str, Any]:
    return {"id": call.id, "function": {"index": 0, "name": call.name, "arguments": json.loads(call.arguments)}}


def _head(seen: Seen) -> dict[str, Any]:
    return {"model": seen.model, "created_at": "2026-01-01T00:00:00.000000000Z"}


def _done() -> dict[str, Any]:
    times = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
    counts = {"prompt_eval_count": 11, "eval_count": 7}
    return {"done": True, "done_reason": "stop", **counts, **dict.fromkeys(times, 1_000_000)}


def _line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"


def refusal(text: str) -> dict[str, Any]:
    """The body of an error."""
    return {"error": text}


def spoken_by_two(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A request of its /v1/messages as Anthropic would take it: Ollama has system messages anywhere."""
    return {**body, "messages": [message for message in body["messages"] if message["role"] != "system"]}


def tags(models: tuple[str, ...]) -> dict[str, Any]:
    """What /api/tags lists."""
    details = {"family": "llama", "families": ["llama"], "parameter_size": "1B", "quantization_level": "Q4_K_M"}
    own = {"size": 1_000_000, "digest": _DIGEST, "details": {"parent_model": "", "format": "gguf", **details}}
    at = "2026-01-01T00:00:00Z"
    return {"models": [{"name": name, "model": name, "modified_at": at, **own} for name in models]}


def show() -> dict[str, Any]:
    """What /api/show tells of each model: it talks, calls tools and sees."""
    facts = {"general.architecture": "llama", "llama.context_length": 131072, "llama.block_count": 1}
    sizes = {"llama.embedding_length": 64, "llama.attention.head_count": 1, "llama.attention.head_count_kv": 1}
    details = tags(("any",))["models"][0]["details"]
    able = ["completion", "tools", "vision"]
    return {"details": details, "model_info": {**facts, **sizes}, "capabilities": able, "modelfile": "", "template": ""}
