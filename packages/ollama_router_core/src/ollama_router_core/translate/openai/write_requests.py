"""Encoding of a conversation as a `/v1/chat/completions` request.

Source: the request types of OpenAI's own Python library; `reasoning_content` and `reasoning` in messages are members of
vLLM, llama.cpp, DeepSeek, OpenRouter and Ollama.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, assert_never

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.accepts import OPENAI_DEFAULT
from ollama_router_core.translate.arguments import arguments_text
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
    ResponseFormat,
    Role,
    Text,
    Thinking,
    ThinkingLevel,
    Tool,
    ToolCall,
    ToolResult,
)
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_reader import Dropped
from ollama_router_core.translate.message_parts import data_url, joined_text, need_messages
from ollama_router_core.translate.openai.reasoning import write_thoughts
from ollama_router_core.translate.openai.replies import extra_content
from ollama_router_core.translate.signatures import own_signature

__all__ = ["LEVELS", "write_chat", "write_choice", "write_format", "write_person", "write_sampling"]

_LONGEST_NAME = 64
_AUDIO = MappingProxyType({"audio/wav": "wav", "audio/mpeg": "mp3"})


LEVELS = MappingProxyType(
    {
        ThinkingLevel.ON: "medium",
        ThinkingLevel.LOW: "low",
        ThinkingLevel.MEDIUM: "medium",
        ThinkingLevel.HIGH: "high",
        ThinkingLevel.MAX: "xhigh",
    }
)


def write_chat(conversation: Conversation, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    """Return the body of a chat completion request, without the model; a stream always includes usage.

    Raises:
        UntranslatableRequest: there is no message.
    """
    need_messages(conversation)
    body: dict[str, Any] = {
        "messages": [_write_message(message, traits, dropped) for message in conversation.messages],
        **write_sampling(conversation, traits, dropped),
        **write_person(conversation, traits, dropped),
    }
    if conversation.tools:
        body["tools"] = [_write_tool(tool) for tool in conversation.tools]
        body |= write_choice(conversation, lambda name: {"type": "function", "function": {"name": name}})
    if conversation.format is not None:
        body["response_format"] = write_format(conversation.format, nested=True)
    if conversation.thinking is not None:
        body |= _write_effort(conversation.thinking, traits, dropped)
    if conversation.verbosity is not None:
        body["verbosity"] = conversation.verbosity
    return body


def _write_effort(level: ThinkingLevel, traits: HostTraits, dropped: Dropped) -> Mapping[str, Any]:
    # Models without reasoning reject the option, and `OFF` is already their behaviour.
    usual = {} if level is ThinkingLevel.OFF else {"reasoning_effort": LEVELS[level]}
    effort = traits.thinking.get(level, usual)
    if not effort:
        dropped.add("think")
    return effort


def write_person(conversation: Conversation, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    """Return the user and service members. OpenAI accepts names of up to 64 characters."""
    members = (OPENAI_DEFAULT if traits.accepts is None else traits.accepts).members
    wanted = {
        "user": _short(conversation.user),
        "safety_identifier": _short(conversation.safety_identifier),
        "prompt_cache_key": _short(conversation.cache_key),
        "service_tier": conversation.service_tier,
    }
    dropped.add_given({key: value for key, value in wanted.items() if key not in members})
    return {key: value for key, value in wanted.items() if value is not None and key in members}


def _short(name: str | None) -> str | None:
    if name is None or len(name) <= _LONGEST_NAME:
        return name
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def write_sampling(conversation: Conversation, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    """Return the sampling and stream options, shared by both kinds of completions."""
    sampling = conversation.sampling
    body = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.seed,
        traits.max_tokens_key: sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "stream": conversation.stream,
        "stream_options": {"include_usage": True} if conversation.stream and traits.stream_usage else None,
    }
    extensions = {"top_k": sampling.top_k, "min_p": sampling.min_p, "repeat_penalty": sampling.repeat_penalty}
    if traits.extensions:
        body |= extensions
    else:
        dropped.add_given(extensions)
    return {key: value for key, value in body.items() if value is not None}


def _write_message(message: Message, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    result = message.parts[0] if message.parts else None
    if isinstance(result, ToolResult):
        return _write_result(result, dropped)
    if message.role is Role.ASSISTANT:
        return _write_assistant(message, traits, dropped)
    return {"role": message.role.value, "content": _write_content(message.parts)}


def _write_content(parts: tuple[Part, ...]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text) for part in parts):
        return joined_text(parts, "\n")
    return [_write_part(part) for part in parts]


def _write_part(part: Part) -> dict[str, Any]:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Image():
            return {"type": "image_url", "image_url": {"url": data_url(part)}}
        case ImageUrl(url=url):
            return {"type": "image_url", "image_url": {"url": url}}
        case File():
            return _write_file(part)
        case FileUrl(url=url):
            return {"type": "text", "text": url}
        case Thinking() | ToolCall() | ToolResult():
            raise UntranslatableRequest("only an assistant's message may have reasoning and tool calls")
        case _:
            assert_never(part)


def _write_file(file: File) -> dict[str, Any]:
    if file.media_type in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": file.data, "format": _AUDIO[file.media_type]}}
    return {"type": "file", "file": {"filename": file.name or "file", "file_data": data_url(file)}}


def _write_assistant(message: Message, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    if any(isinstance(part, Image | ImageUrl | File | FileUrl) for part in message.parts):
        dropped.add("messages.content.image")
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    text = joined_text(message.parts, "")
    written: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if calls:
        written["tool_calls"] = [_write_call(call) for call in calls]
    thoughts = [part for part in message.parts if isinstance(part, Thinking)]
    return {**written, **write_thoughts(thoughts, written["content"], traits, dropped)} if thoughts else written


def _write_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments_text(call.arguments)}
    proof = own_signature(call.signature, Family.OPENAI)
    return {"id": call.id, "type": "function", "function": function, **extra_content(proof)}


def _write_result(result: ToolResult, dropped: Dropped) -> dict[str, Any]:
    if result.is_error:
        dropped.add("messages.content.is_error")
    return {"role": "tool", "tool_call_id": result.call_id, "content": _write_content(result.parts)}


def _write_tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def write_choice(conversation: Conversation, named: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Return the tool choice, a single tool in the form of `named`, and whether calls may be parallel."""
    written: dict[str, Any] = {}
    if (choice := conversation.tool_choice) is not None:
        written["tool_choice"] = named(choice.name) if choice.mode == "named" else choice.mode
    if conversation.parallel_tools is not None:
        written["parallel_tool_calls"] = conversation.parallel_tools
    return written


def write_format(wanted: ResponseFormat, *, nested: bool) -> dict[str, Any]:
    """Return the response format; `nested` puts the schema into a member of its own, as chat completions do."""
    match wanted:
        case JsonMode():
            return {"type": "json_object"}
        case JsonSchema():
            schema: dict[str, Any] = {"name": wanted.name or "answer", "schema": dict(wanted.schema)}
            if wanted.strict is not None:
                schema["strict"] = wanted.strict
            return {"type": "json_schema", **({"json_schema": schema} if nested else schema)}
        case _:
            assert_never(wanted)
