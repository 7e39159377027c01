"""Encoding of a conversation as an `/api/chat` or `/api/generate` request.

Source: Ollama's api/types.go.
"""

from __future__ import annotations

from typing import Any, assert_never

from ollama_router_core.translate.arguments import arguments_object
from ollama_router_core.translate.codec import HostTraits
from ollama_router_core.translate.conversation import (
    Conversation,
    File,
    FileUrl,
    Image,
    ImageUrl,
    JsonMode,
    JsonSchema,
    Message,
    Part,
    Role,
    Sampling,
    Thinking,
    ThinkingLevel,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_reader import Dropped
from ollama_router_core.translate.message_parts import call_names, joined_text, joined_thinking

__all__ = ["write_chat", "write_generate"]


def write_chat(conversation: Conversation, _traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    """Return the body of an `/api/chat` request, without the model."""
    names = call_names(conversation)
    body: dict[str, Any] = {
        "messages": [_write_message(message, names, dropped) for message in conversation.messages],
        **_common(conversation, dropped),
    }
    if tools := _write_tools(conversation, dropped):
        body["tools"] = tools
    return body


def write_generate(conversation: Conversation, _traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    """Return the body of an `/api/generate` request, without the model.

    Raises:
        UntranslatableRequest: there is more than a system prompt and one prompt.
    """
    rest = list(conversation.messages)
    body: dict[str, Any] = _common(conversation, dropped)
    if rest and rest[0].role is Role.SYSTEM:
        body["system"] = joined_text(rest.pop(0).parts, "\n")
    if len(rest) != 1 or rest[0].role is not Role.USER or conversation.tools:
        raise UntranslatableRequest("/api/generate takes one prompt; send a conversation to /api/chat")
    body["prompt"] = joined_text(rest[0].parts, "\n")
    if images := _write_images(rest[0].parts, dropped):
        body["images"] = images
    if conversation.suffix is not None:
        body["suffix"] = conversation.suffix
    _drop_parallel(conversation, dropped)
    return body


def _common(conversation: Conversation, dropped: Dropped) -> dict[str, Any]:
    dropped.add_given(
        {
            "verbosity": conversation.verbosity,
            "user": conversation.user,
            "safety_identifier": conversation.safety_identifier,
            "prompt_cache_key": conversation.cache_key,
            "service_tier": conversation.service_tier,
        }
    )
    body: dict[str, Any] = {"stream": conversation.stream}
    if options := _write_options(conversation.sampling):
        body["options"] = options
    match conversation.format:
        case None:
            pass
        case JsonMode():
            body["format"] = "json"
        case JsonSchema(schema=schema):
            body["format"] = dict(schema)
        case _:
            assert_never(conversation.format)
    match conversation.thinking:
        case None:
            pass
        case ThinkingLevel.OFF | ThinkingLevel.ON:
            body["think"] = conversation.thinking is ThinkingLevel.ON
        case level:
            body["think"] = level.value
    return body


def _write_options(sampling: Sampling) -> dict[str, Any]:
    options = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.seed,
        "num_predict": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
    }
    return {key: value for key, value in options.items() if value is not None}


def _write_message(message: Message, names: dict[str, str], dropped: Dropped) -> dict[str, Any]:
    result = message.parts[0] if message.parts else None
    if isinstance(result, ToolResult):
        return _write_result(result, names, dropped)
    separator = "" if message.role is Role.ASSISTANT else "\n"
    written: dict[str, Any] = {"role": message.role.value, "content": joined_text(message.parts, separator)}
    if thinking := joined_thinking(message.parts):
        written["thinking"] = thinking
    if any(isinstance(part, Thinking) and not part.text for part in message.parts):
        dropped.add("messages.thinking")
    if images := _write_images(message.parts, dropped):
        written["images"] = images
    if calls := [part for part in message.parts if isinstance(part, ToolCall)]:
        written["tool_calls"] = [_write_call(call, index) for index, call in enumerate(calls)]
    return written


def _write_call(call: ToolCall, index: int) -> dict[str, Any]:
    function = {"index": index, "name": call.name, "arguments": arguments_object(call.arguments)}
    return {"id": call.id, "function": function}


def _write_result(result: ToolResult, names: dict[str, str], dropped: Dropped) -> dict[str, Any]:
    written: dict[str, Any] = {"role": "tool", "content": joined_text(result.parts, "\n")}
    if name := names.get(result.call_id):
        written["tool_name"] = name
    written["tool_call_id"] = result.call_id
    if images := _write_images(result.parts, dropped):
        written["images"] = images
    if result.is_error:
        dropped.add("messages.content.is_error")
    return written


def _write_images(parts: tuple[Part, ...], dropped: Dropped) -> list[str]:
    if any(isinstance(part, ImageUrl | File | FileUrl) for part in parts):
        dropped.add("messages.images")  # the host's profile accepts image URLs, but Ollama's API has none
    return [part.data for part in parts if isinstance(part, Image)]


def _write_tools(conversation: Conversation, dropped: Dropped) -> list[dict[str, Any]]:
    _drop_parallel(conversation, dropped)
    choice, tools = conversation.tool_choice or ToolChoice(mode="auto"), conversation.tools
    match choice.mode:
        case "auto":
            pass
        case "none":
            tools = ()
        case "required":
            dropped.add("tool_choice")  # a call cannot be forced
        case "named":
            dropped.add("tool_choice")
            tools = tuple(tool for tool in tools if tool.name == choice.name)
        case _:
            assert_never(choice.mode)
    return [_write_tool(tool, dropped) for tool in tools]


def _drop_parallel(conversation: Conversation, dropped: Dropped) -> None:
    if conversation.parallel_tools is False:
        dropped.add("parallel_tool_calls")


def _write_tool(tool: Tool, dropped: Dropped) -> dict[str, Any]:
    if tool.strict:
        dropped.add("tools.strict")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
