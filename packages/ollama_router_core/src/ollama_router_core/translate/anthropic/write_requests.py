"""Encoding of a conversation as a `/v1/messages` request.

Source: the request types of Anthropic's own Python library. A schema is sent in `output_config.format`. JSON without a
schema is requested in the prompt: Anthropic has no such mode, and a forced tool call would forbid thinking.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, assert_never

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.anthropic.thinking import write_thinking
from ollama_router_core.translate.arguments import arguments_object
from ollama_router_core.translate.codec import HostTraits
from ollama_router_core.translate.conversation import (
    CacheLife,
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
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ollama_router_core.translate.documents import document_text, is_text
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_reader import Dropped
from ollama_router_core.translate.message_parts import need_messages
from ollama_router_core.translate.signatures import own_redacted, own_signature

__all__ = ["write_messages"]

_BEGINNING = "(the conversation begins)"
"""The text of an added first turn, which must be the user's at Anthropic."""
_BLANK = "(blank)"
"""The replacement for a last user turn of only blanks."""
_JSON_ONLY = "Answer with one JSON object and nothing else."
_TIERS = MappingProxyType({"auto": "auto", "default": "standard_only", "standard_only": "standard_only"})


def write_messages(conversation: Conversation, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    """Return the body of a messages request, without the model.

    Raises:
        UntranslatableRequest: there is no message, or a schema that the host ignores.
    """
    need_messages(conversation)
    system, turns = _split_system(conversation.messages)
    if isinstance(conversation.format, JsonMode):
        system.append({"type": "text", "text": _JSON_ONLY})
        dropped.add("response_format")
    body: dict[str, Any] = {
        "messages": _write_turns(turns, dropped),
        **_write_sampling(conversation, dropped),
        **_write_person(conversation, dropped),
        "stream": conversation.stream,
    }
    if system:
        body["system"] = system[0]["text"] if len(system) == 1 and "cache_control" not in system[0] else system
    if conversation.tools:
        body["tools"] = [_write_tool(tool) for tool in conversation.tools]
        _write_tool_choice(conversation, body)
    if conversation.verbosity is not None:
        dropped.add("verbosity")
    write_thinking(conversation, traits, body, dropped)
    if isinstance(conversation.format, JsonSchema):
        body.setdefault("output_config", {})["format"] = _write_schema(conversation.format, traits, dropped)
    return body


def _split_system(messages: tuple[Message, ...]) -> tuple[list[dict[str, Any]], tuple[Message, ...]]:
    """Separate the blocks of the system prompt from the turns; later system messages stay turns."""
    count = 0
    while count < len(messages) and messages[count].role is Role.SYSTEM:
        count += 1
    texts = [part for message in messages[:count] for part in message.parts if isinstance(part, Text)]
    blocks = [_cached({"type": "text", "text": part.text}, part.cache) for part in texts if part.text.strip()]
    return blocks, messages[count:]


def _cached(block: dict[str, Any], cache: CacheLife) -> dict[str, Any]:
    match cache:
        case "":
            return block
        case "5m":
            return {**block, "cache_control": {"type": "ephemeral"}}
        case "1h":
            return {**block, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        case _:
            assert_never(cache)


def _write_person(conversation: Conversation, dropped: Dropped) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if (user := conversation.safety_identifier or conversation.user) is not None:
        written["metadata"] = {"user_id": user}
    if conversation.cache_key is not None:
        dropped.add("prompt_cache_key")
    tier = conversation.service_tier
    if tier is not None and tier in _TIERS:
        written["service_tier"] = _TIERS[tier]
    elif tier is not None:
        dropped.add("service_tier")
    return written


def _write_turns(messages: tuple[Message, ...], dropped: Dropped) -> list[dict[str, Any]]:
    """Return the turns, merging adjacent ones of one role, as results must be in the turn after their calls."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = Role.USER if message.role is Role.TOOL else message.role
        blocks = [block for part in message.parts if (block := _write_block(part, dropped)) is not None]
        if not blocks and message is messages[-1] and message.parts and role is Role.USER:
            blocks = [{"type": "text", "text": _BLANK}]
        if not blocks:
            continue
        if not turns and role is Role.ASSISTANT:
            turns.append({"role": "user", "content": [{"type": "text", "text": _BEGINNING}]})
        if turns and turns[-1]["role"] == role.value:
            turns[-1]["content"].extend(blocks)
        else:
            turns.append({"role": role.value, "content": blocks})
    if not turns:
        raise UntranslatableRequest("there is nothing to answer: every message is empty")
    last = turns[-1]["content"][-1]
    if turns[-1]["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()  # a prefill must not end in blanks
    return turns


def _write_block(part: Part, dropped: Dropped) -> dict[str, Any] | None:
    """Return a part as a block; None for what Anthropic rejects: empty text and reasoning that it did not sign."""
    block: dict[str, Any] | None
    match part:
        case Text(text=text, cache=cache):
            block = _cached({"type": "text", "text": text}, cache) if text.strip() else None
        case Image(media_type=media_type, data=data, cache=cache):
            source = {"type": "base64", "media_type": media_type, "data": data}
            block = _cached({"type": "image", "source": source}, cache)
        case ImageUrl(url=url, cache=cache):
            block = _cached({"type": "image", "source": {"type": "url", "url": url}}, cache)
        case File(name=name, cache=cache):
            block = _cached(_write_document(_source_of(part), name), cache)
        case FileUrl(url=url, name=name, cache=cache):
            block = _cached(_write_document({"type": "url", "url": url}, name), cache)
        case Thinking():
            block = _write_thinking(part, dropped)
        case ToolCall(id=call_id, name=name, arguments=arguments):
            written = arguments_object(arguments)
            block = {"type": "tool_use", "id": call_id, "name": name, "input": written}
        case ToolResult():
            block = _write_result(part, dropped)
        case _:
            assert_never(part)
    return block


def _write_thinking(part: Thinking, dropped: Dropped) -> dict[str, Any] | None:
    if proof := own_signature(part.signature, Family.ANTHROPIC):
        return {"type": "thinking", "thinking": part.text, "signature": proof}
    if data := own_redacted(part.signature):
        return {"type": "redacted_thinking", "data": data}
    dropped.add("messages.thinking")
    return None


def _source_of(file: File) -> dict[str, Any]:
    if is_text(file):
        return {"type": "text", "media_type": "text/plain", "data": document_text(file) or ""}
    return {"type": "base64", "media_type": file.media_type, "data": file.data}


def _write_document(source: dict[str, Any], name: str) -> dict[str, Any]:
    block = {"type": "document", "source": source}
    return {**block, "title": name} if name else block


def _write_result(result: ToolResult, dropped: Dropped) -> dict[str, Any]:
    content = [block for part in result.parts if (block := _write_block(part, dropped)) is not None]
    written: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.call_id, "content": content}
    if result.is_error:
        written["is_error"] = True
    return _cached(written, result.cache)


def _write_sampling(conversation: Conversation, dropped: Dropped) -> dict[str, Any]:
    sampling = conversation.sampling
    unknown = ("min_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed")
    dropped.add_given({key: getattr(sampling, key) for key in unknown})
    body = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "stop_sequences": [text for text in sampling.stop if text.strip()] or None,
    }
    if not all(text.strip() for text in sampling.stop):
        dropped.add("stop")
    if sampling.temperature is not None and sampling.temperature > 1:
        # Anthropic's maximum is 1, also its default, so omitting it is the nearest.
        body["temperature"] = None
        dropped.add("temperature")
    return {key: value for key, value in body.items() if value is not None}


def _write_tool(tool: Tool) -> dict[str, Any]:
    written: dict[str, Any] = {"name": tool.name, "input_schema": tool.parameters}
    if tool.description:
        written["description"] = tool.description
    if tool.strict is not None:
        written["strict"] = tool.strict
    return _cached(written, tool.cache)


def _write_tool_choice(conversation: Conversation, body: dict[str, Any]) -> None:
    single = conversation.parallel_tools is False
    choice = conversation.tool_choice or (ToolChoice(mode="auto") if single else None)
    if choice is None:
        return
    match choice.mode:
        case "auto" | "none":
            written: dict[str, Any] = {"type": choice.mode}
        case "required":
            written = {"type": "any"}
        case "named":
            written = {"type": "tool", "name": choice.name}
        case _:
            assert_never(choice.mode)
    if single and choice.mode != "none":
        written["disable_parallel_tool_use"] = True
    body["tool_choice"] = written


def _write_schema(wanted: JsonSchema, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    if not traits.schemas:
        raise UntranslatableRequest("this host does not enforce JSON schemas; leave out the format")
    if wanted.strict is False:
        dropped.add("response_format.json_schema.strict")
    return {"type": "json_schema", "schema": dict(wanted.schema)}
