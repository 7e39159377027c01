"""Conversion of OpenAI and Anthropic requests to native ones, as in Ollama."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ollama_router_core.testing.error_replies import ApiError

__all__ = ["chat_from_messages", "chat_from_openai", "chat_from_responses", "generate_from_openai"]

_EFFORTS: Mapping[str, bool | str] = {
    "none": False,
    "minimal": "low",
    **{level: level for level in ("low", "medium", "high")},
    **dict.fromkeys(("xhigh", "ultra", "max"), "max"),
}
_IMAGE_PREFIXES = ("data:;base64,", *(f"data:image/{one};base64," for one in ("jpeg", "jpg", "png", "webp")))


_GO_TYPES = {type(None): "<nil>", int: "float64", float: "float64", bool: "bool"}


def chat_from_openai(request: Mapping[str, Any]) -> dict[str, Any]:
    """/v1/chat/completions to /api/chat.

    Raises:
        ApiError: 400 for a message that Ollama rejects.
    """
    effort = request.get("reasoning_effort") or (request.get("reasoning") or {}).get("effort")
    native: dict[str, Any] = {
        "model": request.get("model") or "",
        "messages": [part for one in request["messages"] for part in _openai_parts(one)],
        "options": _options(request),
        "tools": request.get("tools"),
        "format": _format(request.get("response_format") or {}),
    }
    if effort:
        native["think"] = _thinking(effort)
    return native


def generate_from_openai(request: Mapping[str, Any]) -> dict[str, Any]:
    """/v1/completions to /api/generate."""
    return {
        "model": request.get("model") or "",
        "prompt": request.get("prompt") or "",
        "suffix": request.get("suffix"),
        "options": _options(request),
        "think": None,
    }


def chat_from_messages(request: Mapping[str, Any]) -> dict[str, Any]:
    """/v1/messages to /api/chat.

    Raises:
        ApiError: 400 for a block that Ollama rejects.
    """
    messages: list[dict[str, Any]] = []
    system = _text_of(request.get("system"))
    if system:
        messages.append({"role": "system", "content": system})
    for one in request["messages"]:
        messages += _anthropic_parts(one)
    thinking = (request.get("thinking") or {}).get("type")
    return {
        "model": request.get("model") or "",
        "messages": messages,
        "options": {"num_predict": request.get("max_tokens")},
        "tools": [_tool(one) for one in request.get("tools") or ()],
        "think": {"enabled": True, "disabled": False}.get(str(thinking)),
    }


def chat_from_responses(request: Mapping[str, Any]) -> dict[str, Any]:
    """/v1/responses to /api/chat.

    Raises:
        ApiError: 400 for an input item or an effort unknown to Ollama.
    """
    messages: list[dict[str, Any]] = []
    if request.get("instructions"):
        messages.append({"role": "system", "content": request["instructions"]})
    given = request.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    elif isinstance(given, list):
        messages += [_response_item(index, one) for index, one in enumerate(given)]
    elif given is not None:
        kind = "object" if isinstance(given, Mapping) else "bool" if isinstance(given, bool) else "number"
        reason = f"json: cannot unmarshal {kind} into Go value of type []json.RawMessage"
        raise ApiError(400, f"input must be a string or array: {reason}")
    native: dict[str, Any] = {"model": request.get("model") or "", "messages": messages}
    native["options"] = {"num_predict": request.get("max_output_tokens")}
    native["tools"] = [{"type": "function", "function": one} for one in request.get("tools") or ()]
    effort = (request.get("reasoning") or {}).get("effort")
    if effort:
        native["think"] = _thinking(effort)
    return native


def _thinking(effort: Any) -> bool | str:
    level = _EFFORTS.get(effort) if isinstance(effort, str) else None
    if level is None:
        listed = ", ".join(f'"{one}"' for one in _EFFORTS if one != "none")
        raise ApiError(400, f'invalid reasoning value: "{effort}" (must be {listed}, or "none")')
    return level


def _response_item(index: int, item: Any) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise ApiError(400, f"input[{index}]: not an object")
    kind = item.get("type") or ("message" if item.get("role") else "")
    if kind == "message":
        return {"role": item.get("role", ""), "content": _text_of(item.get("content"))}
    if kind == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": [dict(item)]}
    if kind == "function_call_output":
        return {"role": "tool", "content": _text_of(item.get("output"))}
    if kind == "reasoning":
        return {"role": "assistant", "content": "", "thinking": item.get("encrypted_content", "")}
    missing = "input item missing required 'type' field"
    raise ApiError(400, f"input[{index}]: " + (f'unknown input item type: "{kind}"' if kind else missing))


def _options(request: Mapping[str, Any]) -> dict[str, Any]:
    names = {"max_tokens": "num_predict", "seed": "seed", "temperature": "temperature", "top_p": "top_p"}
    return {new: request[old] for old, new in names.items() if request.get(old) is not None}


def _format(wanted: Mapping[str, Any]) -> Any:
    if wanted.get("type") == "json_object":
        return "json"
    if wanted.get("type") == "json_schema":
        schema = wanted.get("json_schema")
        return schema.get("schema") if isinstance(schema, Mapping) else None
    return None


def _openai_parts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    role, content = message.get("role", ""), message.get("content")
    if isinstance(content, str):
        yield {"role": role, "content": content}
    elif isinstance(content, list):
        for part in content:
            yield {"role": role, **_openai_part(part)}
    elif message.get("tool_calls") is None:
        kind = _GO_TYPES.get(type(content), "map[string]interface {}")
        raise ApiError(400, f"invalid message content type: {kind}")
    else:
        yield {"role": role, "content": "", "tool_calls": message["tool_calls"]}


def _openai_part(part: Any) -> dict[str, Any]:
    if isinstance(part, Mapping):
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            return {"content": part["text"]}
        if part.get("type") == "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, Mapping) else image
            if isinstance(url, str):
                return {"content": "", "images": [_image_data(url)]}
    raise ApiError(400, "invalid message format")


def _image_data(url: str) -> str:
    if url.startswith(("http://", "https://")):
        raise ApiError(400, "image URLs are not currently supported, please use base64 encoded data instead")
    prefix = next((one for one in _IMAGE_PREFIXES if url.startswith(one)), None)
    if prefix is None:
        raise ApiError(400, "invalid image input")
    return url[len(prefix) :]


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "".join(str(one.get("text", "")) for one in blocks if isinstance(one, Mapping))


def _anthropic_parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    role, content = str(message.get("role", "")).lower(), message.get("content")
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    images, results, calls = [], [], []
    for block in blocks:
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "image":
            images.append(_anthropic_image(block.get("source")))
        elif kind == "tool_result":
            results.append({"role": "tool", "content": _text_of(block.get("content"))})
        elif kind == "tool_use":
            calls.append({"function": {"name": block.get("name"), "arguments": block.get("input")}})
    own = {"role": role, "content": _text_of(blocks), "images": images, "tool_calls": calls}
    spoken = [own] if own["content"] or images or calls else []
    return [*results, *spoken] if role == "user" else [*spoken, *results]


def _anthropic_image(source: Any) -> str:
    if not isinstance(source, Mapping):
        raise ApiError(400, "invalid image source")
    if source.get("type") != "base64":
        kind = source.get("type")
        raise ApiError(400, f"invalid image source type: {kind}. Only base64 images are supported.")
    return str(source.get("data", ""))


def _tool(one: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": one.get("name"), "parameters": one.get("input_schema") or {}}
    return {"type": "function", "function": {**function, "description": one.get("description", "")}}
