"""Parsing of `/api/chat` and `/api/generate` requests into a conversation.

Source: Ollama's api/types.go. Older Ollama has no ids of tool calls: the id is then derived from the call's position,
and results are matched to calls by `tool_name`, else in order.
"""

from __future__ import annotations

from typing import Any

from ollama_router_core.translate.arguments import read_arguments_text
from ollama_router_core.translate.conversation import (
    Conversation,
    Image,
    ImageUrl,
    JsonMode,
    JsonSchema,
    Message,
    Part,
    ResponseFormat,
    Role,
    Sampling,
    Text,
    Thinking,
    ThinkingLevel,
    ToolCall,
    ToolResult,
)
from ollama_router_core.translate.function_tools import read_tools
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.message_parts import image_of, left_out

__all__ = ["read_chat", "read_generate"]

_MACHINE_KEYS = ("keep_alive", "truncate", "shift", "logprobs", "top_logprobs")


def read_chat(body: JsonReader) -> Conversation:
    """Parse an `/api/chat` request.

    Raises:
        UntranslatableRequest: a value has the wrong type.
    """
    body.drop(*_MACHINE_KEYS)
    tools, _ = read_tools(body)
    calls = _OpenCalls()
    messages = tuple(_read_message(fields, index, calls) for index, fields in enumerate(body.children("messages")))
    return Conversation(messages=messages, tools=tools, **_read_common(body))


def read_generate(body: JsonReader) -> Conversation:
    """Parse an `/api/generate` request: its system prompt and its prompt.

    Raises:
        UntranslatableRequest: a value has the wrong type, or the request formats its prompt itself (`raw`, `template`)
            or continues from a `context`, which only Ollama servers support.
    """
    for key in ("raw", "template", "context"):
        body.refuse(key, "is supported by Ollama servers only; send the conversation to /api/chat instead")
    body.drop(*_MACHINE_KEYS)
    images = _read_images(body)
    prompt = body.text("prompt")
    system = body.text("system")
    messages: list[Message] = []
    if prompt or images:
        if system:
            messages.append(Message(Role.SYSTEM, (Text(system),)))
        messages.append(Message(Role.USER, (*images, *((Text(prompt),) if prompt else ()))))
    return Conversation(messages=tuple(messages), suffix=body.text("suffix") or None, **_read_common(body))


def _read_common(body: JsonReader) -> dict[str, Any]:
    """Parse the members that both routes have."""
    thinking = _read_think(body)
    return {
        "sampling": _read_options(body),
        "format": _read_format(body),
        "thinking": thinking,
        "reasoning_summary": None if thinking in {None, ThinkingLevel.OFF} else "auto",
        "stream": body.flag("stream") is not False,
    }


class _OpenCalls:
    """The calls without a result, in order."""

    def __init__(self) -> None:
        self._open: list[tuple[str, str]] = []

    def add(self, call: ToolCall) -> None:
        self._open.append((call.id, call.name))

    def take(self, call_id: str | None, name: str | None) -> str:
        """Return the id of a result's call: the call with its id, else of its tool, else the first.

        Without an open call, the result keeps its own id.
        """
        by_id = [entry for entry in self._open if entry[0] == call_id]
        by_name = [entry for entry in self._open if entry[1] == name]
        entry = next(iter(by_id or by_name or self._open), None)
        if entry is None:
            return call_id or name or "unknown"
        self._open.remove(entry)
        return entry[0]


def _read_message(fields: JsonReader, index: int, calls: _OpenCalls) -> Message:
    role = fields.need_text("role").lower()
    match role:
        case Role.TOOL:
            message = _read_result(fields, calls)
        case Role.ASSISTANT:
            message = _read_assistant(fields, index, calls)
        case Role.SYSTEM | Role.USER:
            text = fields.text("content")
            message = Message(Role(role), (*_read_images(fields), *((Text(text),) if text else ())))
        case _:
            raise fields.wrong("role", "system, user, assistant or tool")
    fields.close()
    return message


def _read_result(fields: JsonReader, calls: _OpenCalls) -> Message:
    text = fields.text("content") or ""
    name = fields.text("tool_name") or fields.text("name")
    call_id = calls.take(fields.text("tool_call_id"), name)
    return Message(Role.TOOL, (ToolResult(call_id, (*_read_images(fields), Text(text))),))


def _read_assistant(fields: JsonReader, index: int, calls: _OpenCalls) -> Message:
    parts: list[Part] = []
    if thinking := fields.text("thinking"):
        parts.append(Thinking(thinking))
    if text := fields.text("content"):
        parts.append(Text(text))
    parts.extend(_read_images(fields))
    for number, child in enumerate(fields.children("tool_calls")):
        call = _read_call(child, f"call_{index}_{number}")
        calls.add(call)
        parts.append(call)
    return Message(Role.ASSISTANT, tuple(parts))


def _read_call(fields: JsonReader, default_id: str) -> ToolCall:
    function = fields.need_child("function")
    function.raw("index")
    arguments = read_arguments_text(function.raw("arguments"), function.path_of("arguments"))
    fields.raw("type")
    return ToolCall(fields.text("id") or default_id, function.need_text("name"), arguments)


def _read_images(fields: JsonReader) -> tuple[Image | ImageUrl | Text, ...]:
    return tuple(image_of(data) or left_out(fields, "images", "an image") for data in fields.texts("images"))


def _read_options(body: JsonReader) -> Sampling:
    options = body.child("options")
    if options is None:
        return Sampling()
    limit = options.whole("num_predict")
    sampling = Sampling(
        temperature=options.number("temperature"),
        top_p=options.number("top_p"),
        top_k=options.whole("top_k"),
        min_p=options.number("min_p"),
        repeat_penalty=options.number("repeat_penalty"),
        presence_penalty=options.number("presence_penalty"),
        frequency_penalty=options.number("frequency_penalty"),
        seed=options.whole("seed"),
        # Negative means no limit or "fill the context", which equals no limit in other dialects.
        max_tokens=limit if limit is not None and limit >= 0 else None,
        stop=options.texts("stop"),
    )
    options.close()
    return sampling


def _read_format(body: JsonReader) -> ResponseFormat | None:
    value = body.raw("format")
    if value is None or value == "":
        return None
    if value == "json":
        return JsonMode()
    if isinstance(value, dict):
        return JsonSchema(schema=value)
    raise body.wrong("format", 'the text "json" or a JSON schema')


def _read_think(body: JsonReader) -> ThinkingLevel | None:
    value = body.raw("think")
    match value:
        case None | "":
            return None
        case True:
            return ThinkingLevel.ON
        case False:
            return ThinkingLevel.OFF
        case "low" | "medium" | "high" | "max":
            return ThinkingLevel(value)
        case _:
            raise body.wrong("think", "true, false, low, medium, high or max")
