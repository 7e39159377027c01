"""Parsing of `/v1/chat/completions` requests into a conversation.

Source: the request types of OpenAI's own Python library, and the variants of clients of compatible hosts: reasoning in
every member, parts of Responses and of Anthropic's messages, arguments as objects.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from ollama_router_core.translate.arguments import read_arguments_text
from ollama_router_core.translate.conversation import (
    Conversation,
    JsonMode,
    JsonSchema,
    Message,
    Part,
    ReplyOptions,
    ResponseFormat,
    Role,
    Sampling,
    Text,
    Thinking,
    ThinkingLevel,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Verbosity,
)
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.function_tools import INPUT, fitting_choice, input_arguments, read_tools
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.lenient_json import object_of
from ollama_router_core.translate.message_parts import result_parts
from ollama_router_core.translate.openai.read_parts import read_content
from ollama_router_core.translate.openai.reasoning import DETAILS, read_client_thoughts, read_thoughts
from ollama_router_core.translate.openai.tool_deltas import call_signature

__all__ = [
    "allowed_tools",
    "read_chat",
    "read_effort",
    "read_person",
    "read_sampling",
    "read_schema",
    "read_tool_choice",
    "read_verbosity",
    "refuse_many",
    "wants_usage",
]


_EFFORTS = MappingProxyType(
    {
        "none": ThinkingLevel.OFF,
        "minimal": ThinkingLevel.LOW,
        "low": ThinkingLevel.LOW,
        "medium": ThinkingLevel.MEDIUM,
        "high": ThinkingLevel.HIGH,
        "xhigh": ThinkingLevel.MAX,
        "ultra": ThinkingLevel.MAX,
        "max": ThinkingLevel.MAX,
    }
)


def read_chat(body: JsonReader) -> Conversation:
    """Parse a chat completion request.

    Raises:
        UntranslatableRequest: a value has the wrong type, or the request uses what no other dialect has: several
            responses, audio output, the functions of 2023.
    """
    refuse_many(body, "n")
    for key in ("functions", "function_call"):
        body.refuse(key, "is deprecated; use tools and tool_choice")
    body.refuse("audio", "is supported by OpenAI only")
    if set(body.texts("modalities")) - {"text"}:
        raise UntranslatableRequest("modalities: only text can be translated")
    tools, known = read_tools(body)
    tools = allowed_tools(tools, body)
    return Conversation(
        messages=tuple(_read_message(fields) for fields in body.children("messages")),
        tools=tools,
        tool_choice=fitting_choice(read_tool_choice(body), tools, body),
        parallel_tools=body.flag("parallel_tool_calls"),
        sampling=read_sampling(body),
        format=_read_format(body),
        thinking=_read_effort(body),
        verbosity=read_verbosity(body),
        stream=body.flag("stream") is True,
        reply_options=ReplyOptions(include_usage=wants_usage(body), tools=known),
        **read_person(body),
    )


def read_person(body: JsonReader) -> dict[str, Any]:
    """Parse the user and service members, which chat completions and Responses share."""
    return {
        "user": body.text("user") or None,
        "safety_identifier": body.text("safety_identifier") or None,
        "cache_key": body.text("prompt_cache_key") or None,
        "service_tier": body.text("service_tier") or None,
    }


def read_verbosity(fields: JsonReader) -> Verbosity | None:
    """Parse `verbosity`.

    Raises:
        UntranslatableRequest: the value is not one of the three words.
    """
    value = fields.raw("verbosity")
    match value:
        case None | "low" | "medium" | "high":
            return value
        case _:
            raise fields.wrong("verbosity", "low, medium or high")


def refuse_many(body: JsonReader, key: str) -> None:
    """Reject a request for several responses to one prompt.

    Raises:
        UntranslatableRequest: the number is not 1.
    """
    if body.whole(key) not in {None, 1}:
        raise UntranslatableRequest(f"{key} must be 1: the other dialects return one answer per request")


def wants_usage(body: JsonReader) -> bool:
    """Return whether a stream should end with a usage chunk."""
    options = body.child("stream_options")
    return options is not None and options.flag("include_usage") is True


def read_sampling(body: JsonReader) -> Sampling:
    """Parse the sampling options, including those that only OpenAI-compatible hosts support."""
    newer, older = body.whole("max_completion_tokens"), body.whole("max_tokens")
    return Sampling(
        temperature=body.number("temperature"),
        top_p=body.number("top_p"),
        top_k=body.whole("top_k"),
        min_p=body.number("min_p"),
        repeat_penalty=body.number("repeat_penalty"),
        presence_penalty=body.number("presence_penalty"),
        frequency_penalty=body.number("frequency_penalty"),
        seed=body.whole("seed"),
        max_tokens=older if newer is None else newer,
        stop=body.texts("stop"),
    )


def _read_message(fields: JsonReader) -> Message:
    role = fields.need_text("role")
    match role:
        case "system" | "developer":
            message = Message(Role.SYSTEM, read_content(fields, "content"))
        case "user":
            message = Message(Role.USER, read_content(fields, "content"))
        case "assistant":
            message = _read_assistant(fields)
        case "tool":
            fields.raw("name")
            parts = result_parts(read_content(fields, "content"))
            message = Message(Role.TOOL, (ToolResult(fields.need_text("tool_call_id"), parts),))
        case _:
            raise fields.wrong("role", "system, developer, user, assistant or tool")
    fields.close()
    return message


def _read_assistant(fields: JsonReader) -> Message:
    fields.refuse("function_call", "is deprecated; use tool_calls")
    fields.drop("audio")
    thoughts = _read_thoughts(fields)
    content = read_content(fields, "content")
    parts: list[Part] = [*thoughts, *content]
    if refusal := fields.text("refusal"):
        parts.append(Text(refusal))
    parts.extend(_read_call(child) for child in fields.children("tool_calls"))
    for key in ("annotations", "function_call", "audio"):  # members of earlier replies, sent back unchanged
        fields.raw(key)
    return Message(Role.ASSISTANT, tuple(parts))


def _read_thoughts(fields: JsonReader) -> list[Thinking]:
    text, _ = read_thoughts(fields.values)
    for key in ("reasoning_content", "reasoning", "thinking", "reasoning_text"):
        fields.raw(key)
    return read_client_thoughts(text, fields.raw(DETAILS))


def _read_call(fields: JsonReader) -> ToolCall:
    given_id = fields.need_text("id")
    signature = call_signature(fields.values)
    if fields.text("type") == "custom":
        custom = fields.need_child("custom")
        return ToolCall(given_id, custom.need_text("name"), input_arguments(custom.text(INPUT) or ""), signature)
    function = fields.need_child("function")
    arguments = read_arguments_text(function.raw("arguments") or "", function.path_of("arguments"))
    return ToolCall(given_id, function.need_text("name"), arguments, signature)


def allowed_tools(tools: tuple[Tool, ...], body: JsonReader) -> tuple[Tool, ...]:
    """Return the tools that the tool choice allows; all if it does not list them."""
    value = body.values.get("tool_choice")
    if not isinstance(value, dict) or value.get("type") != "allowed_tools":
        return tools
    choice = body.need_child("tool_choice")
    listed = choice.child("allowed_tools") or choice
    names = {(tool.child("function") or tool.child("custom") or tool).text("name") for tool in listed.children("tools")}
    return tuple(tool for tool in tools if tool.name in names)


def read_tool_choice(body: JsonReader) -> ToolChoice | None:
    """Parse the tool choice in all its forms; a choice of a hosted tool is listed as dropped.

    Raises:
        UntranslatableRequest: the form is unknown.
    """
    value = body.raw("tool_choice")
    choice: ToolChoice | None = None
    match value:
        case None:
            pass
        case ("auto" | "none" | "required" as mode) | {"type": "auto" | "none" | "required" as mode}:
            choice = ToolChoice(mode=mode)
        case "any" | {"type": "any"}:  # Mistral's and Anthropic's word
            choice = ToolChoice(mode="required")
        case {"type": "allowed_tools"}:
            fields = body.need_child("tool_choice")
            allowed = (fields.child("allowed_tools") or fields).text("mode")
            choice = ToolChoice(mode="required" if allowed == "required" else "auto")
        case {"type": "function" | "custom" | "tool"} | {"function": {}}:
            fields = body.need_child("tool_choice")
            named = fields.child("function") or fields.child("custom") or fields
            choice = ToolChoice(mode="named", name=named.need_text("name"))
        case {"type": str()}:
            body.note("tool_choice")
        case _:
            raise body.wrong("tool_choice", "auto, none, required or one function")
    return choice


def _read_format(body: JsonReader) -> ResponseFormat | None:
    fields = body.child("response_format")
    if fields is None:
        return None
    match fields.text("type"):
        case "text":
            return None
        case "json_object":
            # Some servers accept the schema next to the type.
            loose = fields.mapping("schema")
            return JsonSchema(schema=loose) if loose else JsonMode()
        case "json_schema":
            return read_schema(fields.need_child("json_schema"))
        case _:
            raise fields.wrong("type", "text, json_object or json_schema")


def read_schema(fields: JsonReader) -> JsonSchema:
    """Parse a schema with its name."""
    name, strict = fields.text("name") or "", fields.flag("strict")
    return JsonSchema(schema=fields.mapping("schema") or {}, name=name, strict=strict)


def _read_effort(body: JsonReader) -> ThinkingLevel | None:
    level = read_effort(body, "reasoning_effort")
    if level is None and (nested := body.child("reasoning")) is not None:
        level = read_effort(nested, "effort")
    return _read_switch(body) if level is None else level


def read_effort(fields: JsonReader, key: str) -> ThinkingLevel | None:
    """Parse a reasoning effort.

    Raises:
        UntranslatableRequest: the effort is unknown.
    """
    effort = fields.text(key)
    if effort is None:
        return None
    if effort not in _EFFORTS:
        raise fields.wrong(key, ", ".join(_EFFORTS))
    return _EFFORTS[effort]


def _read_switch(body: JsonReader) -> ThinkingLevel | None:
    """Parse other hosts' switches: `thinking` (DeepSeek, Z.AI), `enable_thinking` (Qwen), `think` (Ollama)."""
    thinking = object_of(body.raw("thinking")).get("type")
    template = object_of(body.raw("chat_template_kwargs")).get("enable_thinking")
    switches = (body.raw("think"), body.raw("enable_thinking"), template)
    switch = next((value for value in switches if isinstance(value, bool)), None)
    if thinking == "disabled" or switch is False:
        return ThinkingLevel.OFF
    return ThinkingLevel.ON if thinking in {"enabled", "adaptive"} or switch else None
