"""Whole replies of `/v1/messages`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, assert_never

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.arguments import arguments_object, reply_arguments_text
from ollama_router_core.translate.call_ids import escaped_id
from ollama_router_core.translate.conversation import ReplyOptions, Text, Thinking, ToolCall
from ollama_router_core.translate.errors import HostFailed, UntranslatableReply
from ollama_router_core.translate.host_errors import is_error_body, read_error_object
from ollama_router_core.translate.lenient_json import count_of, list_of, object_of, text_of
from ollama_router_core.translate.replies import (
    FinishReason,
    Reply,
    ReplyIdentity,
    ReplyPart,
    Usage,
    read_finish,
    whole_finish,
)
from ollama_router_core.translate.signatures import own_redacted, read_redacted, read_signature, write_signature
from ollama_router_core.translate.timestamps import call_id

__all__ = ["head_fields", "read_reply", "read_usage", "stop_fields", "usage_fields", "write_reply"]

_STOP_REASONS = MappingProxyType(
    {
        FinishReason.STOP: "end_turn",
        FinishReason.LENGTH: "max_tokens",
        FinishReason.TOOL_CALLS: "tool_use",
        FinishReason.CONTENT_FILTER: "refusal",
    }
)


def read_reply(body: dict[str, Any]) -> Reply:
    """Parse a whole reply.

    Raises:
        HostFailed: the reply is an error.
        UntranslatableReply: there is no content.
    """
    if is_error_body(body):
        raise HostFailed(read_error_object(None, body))
    content = body.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise UntranslatableReply("the server's answer has no content")
    parts = [part for value in list_of(content) if (part := _read_block(object_of(value))) is not None]
    called = any(isinstance(part, ToolCall) for part in parts)
    return Reply(
        parts=tuple(parts),
        finish=read_finish(body.get("stop_reason"), called=called),
        stop_sequence=text_of(body.get("stop_sequence")) or None,
        usage=read_usage(body.get("usage")),
    )


def _read_block(block: dict[str, Any]) -> ReplyPart | None:
    match block.get("type"):
        case "text":
            text = text_of(block.get("text"))
            return Text(text) if text else None
        case "thinking":
            thinking = text_of(block.get("thinking"))
            signature = read_signature(text_of(block.get("signature")), Family.ANTHROPIC)
            return Thinking(thinking, signature) if thinking or signature else None
        case "tool_use":
            arguments = reply_arguments_text(block.get("input"))
            return ToolCall(text_of(block.get("id")), text_of(block.get("name")), arguments)
        case "redacted_thinking":
            redacted = read_redacted(text_of(block.get("data")))
            return Thinking("", redacted) if redacted else None
        case _:
            # Results of Anthropic's own tools, which no other dialect can express.
            return None


def read_usage(value: Any) -> Usage | None:
    """Parse the token counts; Anthropic counts the cached part of the prompt separately."""
    if not isinstance(value, dict):
        return None
    cached = count_of(value.get("cache_read_input_tokens"))
    by_life = object_of(value.get("cache_creation"))
    written = count_of(value.get("cache_creation_input_tokens")) or sum(map(count_of, by_life.values()))
    return Usage(
        input_tokens=count_of(value.get("input_tokens")) + cached + written,
        output_tokens=count_of(value.get("output_tokens")),
        cached_tokens=cached,
        cache_write_tokens=written,
    )


def usage_fields(usage: Usage | None) -> dict[str, Any]:
    """Return the usage object; unknown counts are 0, as Anthropic's clients require the object."""
    usage = usage or Usage()
    apart = usage.cached_tokens + usage.cache_write_tokens
    fields = {"input_tokens": max(usage.input_tokens - apart, 0), "output_tokens": usage.output_tokens}
    if apart:
        fields["cache_creation_input_tokens"] = usage.cache_write_tokens
        fields["cache_read_input_tokens"] = usage.cached_tokens
    return fields


def stop_fields(finish: FinishReason, stop_sequence: str | None) -> dict[str, Any]:
    """Return `stop_reason` and `stop_sequence`; the latter is known only from Anthropic hosts."""
    if finish is FinishReason.STOP and stop_sequence is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_sequence}
    return {"stop_reason": _STOP_REASONS[finish], "stop_sequence": None}


def head_fields(identity: ReplyIdentity) -> dict[str, Any]:
    """Return the first members of a reply."""
    return {"id": f"msg_{identity.id}", "type": "message", "role": "assistant", "model": identity.model}


def write_reply(reply: Reply, identity: ReplyIdentity, _options: ReplyOptions) -> dict[str, Any]:
    """Return the body of a whole reply."""
    content: list[dict[str, Any]] = []
    calls = 0
    for part in reply.parts:
        content.append(_write_block(part, calls, identity))
        calls += isinstance(part, ToolCall)
    return {
        **head_fields(identity),
        "content": content,
        **stop_fields(whole_finish(reply), reply.stop_sequence),
        "usage": usage_fields(reply.usage),
    }


def _write_block(part: ReplyPart, number: int, identity: ReplyIdentity) -> dict[str, Any]:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Thinking(signature=signature) if own_redacted(signature):
            return {"type": "redacted_thinking", "data": own_redacted(signature)}
        case Thinking(text=text, signature=signature):
            return {"type": "thinking", "thinking": text, "signature": write_signature(signature, Family.ANTHROPIC)}
        case ToolCall(id=given_id, name=name, arguments=arguments):
            call = {"type": "tool_use", "id": escaped_id(given_id or call_id(identity, number)), "name": name}
            return {**call, "input": arguments_object(arguments)}
        case _:
            assert_never(part)
