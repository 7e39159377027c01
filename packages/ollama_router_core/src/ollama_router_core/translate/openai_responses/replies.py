"""Whole replies of `/v1/responses`: a response and its output items."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, assert_never

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.arguments import arguments_text, reply_arguments_text
from ollama_router_core.translate.conversation import ClientTool, ReplyOptions, Text, Thinking, ToolCall
from ollama_router_core.translate.errors import HostFailed, UntranslatableReply
from ollama_router_core.translate.function_tools import input_of
from ollama_router_core.translate.host_errors import is_error_body, read_error_object
from ollama_router_core.translate.lenient_json import list_of, object_of, text_of
from ollama_router_core.translate.openai.reasoning import content_parts
from ollama_router_core.translate.openai.replies import read_usage
from ollama_router_core.translate.openai_responses.read_items import PARAGRAPH
from ollama_router_core.translate.replies import FinishReason, Reply, ReplyIdentity, ReplyPart, Usage
from ollama_router_core.translate.signatures import read_signature, write_signature
from ollama_router_core.translate.timestamps import call_id, created_seconds

__all__ = [
    "call_item",
    "message_item",
    "read_response",
    "read_status",
    "reasoning_item",
    "response_object",
    "text_part",
    "write_response",
]

_INCOMPLETE = MappingProxyType(
    {FinishReason.LENGTH: "max_output_tokens", FinishReason.CONTENT_FILTER: "content_filter"}
)
_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
    }
)


def read_response(body: dict[str, Any]) -> Reply:
    """Parse a response.

    Raises:
        UntranslatableReply: there is no output.
        HostFailed: the response failed.
    """
    if body.get("status") in {"failed", "cancelled"} or is_error_body(body):
        raise HostFailed(read_error_object(None, body))
    output = body.get("output")
    if not isinstance(output, list):
        raise UntranslatableReply("the server's answer has no output")
    parts = [part for item in output for part in _read_item(object_of(item))]
    called = any(isinstance(part, ToolCall) for part in parts)
    return Reply(parts=tuple(parts), finish=read_status(body, called=called), usage=read_usage(body.get("usage")))


def _read_item(item: dict[str, Any]) -> list[ReplyPart]:
    match item.get("type"):
        case "message":
            return [part for part in content_parts(item.get("content")) if isinstance(part, Text)]
        case "function_call":
            return [
                ToolCall(
                    text_of(item.get("call_id")), text_of(item.get("name")), reply_arguments_text(item.get("arguments"))
                )
            ]
        case "reasoning":
            return _read_reasoning(item)
        case _:
            # Results of OpenAI's own tools, which no other dialect can express.
            return []


def _read_reasoning(item: dict[str, Any]) -> list[ReplyPart]:
    summary, content = (
        PARAGRAPH.join(text_of(object_of(part).get("text")) for part in list_of(item.get(key)))
        for key in ("summary", "content")
    )
    signature = read_signature(text_of(item.get("encrypted_content")), Family.OPENAI_RESPONSES)
    text = content or summary
    return [Thinking(text, signature)] if text or signature else []


def read_status(response: dict[str, Any], *, called: bool) -> FinishReason:
    """Parse `status` and `incomplete_details`."""
    if response.get("status") == "incomplete":
        reason = object_of(response.get("incomplete_details")).get("reason")
        return FinishReason.CONTENT_FILTER if reason == "content_filter" else FinishReason.LENGTH
    return FinishReason.TOOL_CALLS if called else FinishReason.STOP


def write_response(reply: Reply, identity: ReplyIdentity, options: ReplyOptions) -> dict[str, Any]:
    """Return the body of a response; consecutive texts are in one message."""
    output: list[dict[str, Any]] = []
    calls = 0
    for part in reply.parts:
        match part:
            case Text(text=text):
                if output and output[-1]["type"] == "message":
                    output[-1]["content"].append(text_part(text))
                else:
                    output.append(message_item(identity, len(output), [text_part(text)]))
            case Thinking(text=text, signature=signature):
                output.append(reasoning_item(identity, len(output), text, signature))
            case ToolCall():
                call = _with_id(part, calls, identity)
                output.append(call_item(identity, len(output), call, options.tools.get(call.name)))
                calls += 1
            case _:
                assert_never(part)
    return response_object(identity, options, output=output, finish=reply.finish, usage=reply.usage)


def _with_id(call: ToolCall, number: int, identity: ReplyIdentity) -> ToolCall:
    return call if call.id else ToolCall(call_id(identity, number), call.name, call.arguments)


def response_object(
    identity: ReplyIdentity,
    options: ReplyOptions,
    *,
    output: list[dict[str, Any]],
    finish: FinishReason | None = None,
    usage: Usage | None = None,
) -> dict[str, Any]:
    """Return a response, in progress without a `finish`; unknown counts are 0, as clients require the object."""
    response: dict[str, Any] = {
        **_DEFAULTS,
        **options.echo,
        "id": f"resp_{identity.id}",
        "object": "response",
        "created_at": created_seconds(identity),
        "model": identity.model,
        "output": output,
        "status": "in_progress",
        "usage": None,
    }
    if finish is None:
        return response
    reason = _INCOMPLETE.get(finish)
    response["status"] = "completed" if reason is None else "incomplete"
    response["incomplete_details"] = None if reason is None else {"reason": reason}
    response["usage"] = _usage_fields(usage or Usage())
    return response


def _usage_fields(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def text_part(text: str) -> dict[str, Any]:
    """Return a text part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(
    identity: ReplyIdentity, index: int, content: list[dict[str, Any]], status: str = "completed"
) -> dict[str, Any]:
    """Return the output item of a message."""
    item = {"type": "message", "id": f"msg_{identity.id}_{index}", "status": status, "role": "assistant"}
    return {**item, "content": content}


def reasoning_item(identity: ReplyIdentity, index: int, text: str, signature: str) -> dict[str, Any]:
    """Return the output item of reasoning."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    proof = write_signature(signature, Family.OPENAI_RESPONSES) or None
    return {"type": "reasoning", "id": f"rs_{identity.id}_{index}", "summary": summary, "encrypted_content": proof}


def call_item(
    identity: ReplyIdentity, index: int, call: ToolCall, tool: ClientTool | None, status: str = "completed"
) -> dict[str, Any]:
    """Return the output item of a call, in the client's form of the tool; without arguments until completed."""
    if tool is not None and tool.custom:
        free_text = input_of(call.arguments) if status == "completed" else ""
        item = {"type": "custom_tool_call", "id": f"ctc_{identity.id}_{index}", "status": status}
        return {**item, "call_id": call.id, "name": tool.name, "input": free_text}
    arguments = arguments_text(call.arguments) if status == "completed" else ""
    item = {"type": "function_call", "id": f"fc_{identity.id}_{index}", "status": status, "call_id": call.id}
    if tool is not None:
        return {**item, "name": tool.name, "namespace": tool.namespace, "arguments": arguments}
    return {**item, "name": call.name, "arguments": arguments}
