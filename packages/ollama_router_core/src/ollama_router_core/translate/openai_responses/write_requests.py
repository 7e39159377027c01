"""Encoding of a conversation as a `/v1/responses` request.

Source: the request types of OpenAI's own Python library. The host is told to store nothing; the encrypted reasoning is
requested instead.
"""

from __future__ import annotations

from typing import Any, assert_never

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.arguments import arguments_text
from ollama_router_core.translate.codec import HostTraits
from ollama_router_core.translate.conversation import (
    Conversation,
    File,
    FileUrl,
    Image,
    ImageUrl,
    Message,
    Part,
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
from ollama_router_core.translate.openai.write_requests import LEVELS, write_choice, write_format, write_person
from ollama_router_core.translate.signatures import own_signature

__all__ = ["write_response_request"]


def write_response_request(conversation: Conversation, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    """Return the body of a request, without the model.

    Raises:
        UntranslatableRequest: there is no message.
    """
    need_messages(conversation)
    instructions, messages = _split_instructions(conversation.messages)
    body: dict[str, Any] = {
        "input": [item for message in messages for item in _write_message(message, traits, dropped)],
        "stream": conversation.stream,
        "store": False,
        **_write_sampling(conversation, traits, dropped),
        **_write_tools(conversation),
        **_write_reasoning(conversation, traits, dropped),
        **write_person(conversation, traits, dropped),
    }
    if instructions:
        body["instructions"] = instructions
    if text := _write_text(conversation):
        body["text"] = text
    return body


def _split_instructions(messages: tuple[Message, ...]) -> tuple[str, tuple[Message, ...]]:
    """Return the system prompt, which is separate, and the other messages; a single message is not split."""
    if len(messages) > 1 and messages[0].role is Role.SYSTEM:
        return joined_text(messages[0].parts, "\n"), messages[1:]
    return "", messages


def _write_message(message: Message, traits: HostTraits, dropped: Dropped) -> list[dict[str, Any]]:
    match message.role:
        case Role.SYSTEM | Role.USER:
            return [{"type": "message", "role": message.role.value, "content": _write_content(message.parts)}]
        case Role.TOOL:
            return [_write_result(part, dropped) for part in message.parts if isinstance(part, ToolResult)]
        case Role.ASSISTANT:
            written = (_write_assistant_part(part, traits, dropped) for part in message.parts)
            return [item for item in written if item is not None]
        case _:
            assert_never(message.role)


def _write_content(parts: tuple[Part, ...]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text) for part in parts):
        return joined_text(parts, "\n")
    return [_write_part(part) for part in parts]


def _write_part(part: Part) -> dict[str, Any]:
    match part:
        case Text(text=text):
            return {"type": "input_text", "text": text}
        case Image():
            return {"type": "input_image", "detail": "auto", "image_url": data_url(part)}
        case ImageUrl(url=url):
            return {"type": "input_image", "detail": "auto", "image_url": url}
        case File(name=name):
            return {"type": "input_file", "filename": name or "file", "file_data": data_url(part)}
        case FileUrl(url=url):
            return {"type": "input_file", "file_url": url}
        case Thinking() | ToolCall() | ToolResult():
            raise UntranslatableRequest("only an assistant's message may have reasoning and tool calls")
        case _:
            assert_never(part)


def _write_result(result: ToolResult, dropped: Dropped) -> dict[str, Any]:
    if result.is_error:
        dropped.add("messages.content.is_error")
    return {"type": "function_call_output", "call_id": result.call_id, "output": _write_content(result.parts)}


def _write_assistant_part(part: Part, traits: HostTraits, dropped: Dropped) -> dict[str, Any] | None:
    """Return the item of an assistant's part; None for reasoning that the host cannot verify."""
    match part:
        case Text(text=text):
            return {"type": "message", "role": "assistant", "content": text} if text else None
        case Thinking():
            return _write_thinking(part, traits, dropped)
        case ToolCall(id=call_id, name=name, arguments=arguments):
            call = {"type": "function_call", "call_id": call_id, "name": name}
            return {**call, "arguments": arguments_text(arguments)}
        case Image() | ImageUrl() | File() | FileUrl() | ToolResult():
            dropped.add("messages.content.image")
            return None
        case _:
            assert_never(part)


def _write_thinking(part: Thinking, traits: HostTraits, dropped: Dropped) -> dict[str, Any] | None:
    if proof := own_signature(part.signature, Family.OPENAI_RESPONSES):
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        return {"type": "reasoning", "summary": summary, "encrypted_content": proof}
    if part.text and traits.extensions:
        return {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": part.text}]}
    dropped.add("messages.thinking")
    return None


def _write_sampling(conversation: Conversation, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    sampling = conversation.sampling
    body: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_output_tokens": sampling.max_tokens,
    }
    extensions = {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
    }
    if traits.extensions:
        body |= extensions
    else:
        dropped.add_given(extensions)
    return {key: value for key, value in body.items() if value is not None}


def _write_tools(conversation: Conversation) -> dict[str, Any]:
    if not conversation.tools:
        return {}
    tools = [_write_tool(tool) for tool in conversation.tools]
    return {"tools": tools, **write_choice(conversation, lambda name: {"type": "function", "name": name})}


def _write_tool(tool: Tool) -> dict[str, Any]:
    """Return a function. A missing `strict` means true here, false in every other dialect."""
    written = {"type": "function", "name": tool.name, "parameters": tool.parameters, "strict": tool.strict is True}
    return {**written, "description": tool.description} if tool.description else written


def _write_reasoning(conversation: Conversation, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    level = conversation.thinking
    if level is None:
        return {}
    if level in traits.thinking or level is ThinkingLevel.OFF:
        # Models without reasoning reject the option, and `OFF` is already their behaviour.
        members = dict(traits.thinking.get(level, {}))
        if not members:
            dropped.add("think")
        return members
    reasoning = {"effort": LEVELS[level]}
    if conversation.reasoning_summary is not None:
        reasoning["summary"] = conversation.reasoning_summary
    return {"reasoning": reasoning, "include": ["reasoning.encrypted_content"]}


def _write_text(conversation: Conversation) -> dict[str, Any]:
    text: dict[str, Any] = {}
    if conversation.format is not None:
        text["format"] = write_format(conversation.format, nested=False)
    if conversation.verbosity is not None:
        text["verbosity"] = conversation.verbosity
    return text
