"""Whole replies of chat completions and completions.

Reasoning is read from every member and written to `reasoning`, as Ollama's own `/v1` routes do; its signatures are in
`reasoning_details`, as OpenRouter's.
"""

from __future__ import annotations

from typing import Any

from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.arguments import arguments_text, reply_arguments_text
from ollama_router_core.translate.conversation import ReplyOptions, Text, Thinking, ToolCall
from ollama_router_core.translate.errors import HostFailed, UntranslatableReply
from ollama_router_core.translate.function_tools import input_of
from ollama_router_core.translate.host_errors import is_error_body, read_error_object
from ollama_router_core.translate.lenient_json import count_of, list_of, object_of, text_of
from ollama_router_core.translate.message_parts import joined_text, joined_thinking
from ollama_router_core.translate.openai.reasoning import (
    DETAILS,
    Details,
    client_details,
    content_parts,
    member_signature,
    read_thoughts,
)
from ollama_router_core.translate.openai.tool_deltas import call_signature
from ollama_router_core.translate.replies import Reply, ReplyIdentity, ReplyPart, Timings, Usage, read_finish
from ollama_router_core.translate.timestamps import call_id, created_seconds

__all__ = [
    "extra_content",
    "failure_in",
    "head_fields",
    "read_chat_reply",
    "read_completion_reply",
    "read_timings",
    "read_usage",
    "usage_fields",
    "write_call",
    "write_chat_reply",
    "write_completion_reply",
]

_MAX_MS = 1e12  # 30 years: larger numbers are invalid

_FAILURES = frozenset({"error", "network_error", "insufficient_system_resource", "abort"})
"""Finish reasons of a reply that failed."""


def read_chat_reply(body: dict[str, Any]) -> Reply:
    """Parse a chat completion.

    Raises:
        HostFailed: the reply is an error, or ended with one.
        UntranslatableReply: there is no choice with a message.
    """
    choice = _first_choice(body)
    message = choice.get("message") or choice.get("delta")
    if not isinstance(message, dict):
        raise UntranslatableReply("the server's answer has no message")
    calls = [_read_call(value) for value in list_of(message.get("tool_calls"))]
    calls += [_read_call(message)] if isinstance(message.get("function_call"), dict) else []
    return Reply(
        parts=(*_thoughts(message), *_content(message), *calls),
        finish=read_finish(choice.get("finish_reason"), called=bool(calls)),
        usage=read_usage(body.get("usage")),
        timings=read_timings(body.get("timings")),
    )


def _thoughts(message: dict[str, Any]) -> list[ReplyPart]:
    text, field = read_thoughts(message)
    details = Details()
    detailed = details.add(message.get(DETAILS))
    proof = details.proof() or (member_signature(field) if field else "")
    return [Thinking(text or detailed, proof)] if text or detailed or proof else []


def _content(message: dict[str, Any]) -> list[Text | Thinking]:
    """Parse the content, or the refusal in its place."""
    return content_parts(message.get("content")) or content_parts(message.get("refusal"))


def read_completion_reply(body: dict[str, Any]) -> Reply:
    """Parse a completion.

    Raises:
        UntranslatableReply: there is no choice with a text.
    """
    choice = _first_choice(body)
    text = choice.get("text")
    if not isinstance(text, str):
        raise UntranslatableReply("the server's answer has no text")
    return Reply(
        parts=(Text(text),) if text else (),
        finish=read_finish(choice.get("finish_reason"), called=False),
        usage=read_usage(body.get("usage")),
        timings=read_timings(body.get("timings")),
    )


def _first_choice(body: dict[str, Any]) -> dict[str, Any]:
    choices = list_of(body.get("choices"))
    choice = object_of(choices[0]) if choices else {}
    failed = failure_in(body, choice)
    if failed is not None:
        raise HostFailed(failed)
    return choice


def failure_in(body: dict[str, Any], choice: dict[str, Any]) -> ApiError | None:
    """Return the error in a reply or a chunk with the status 200; None without one."""
    if is_error_body(body):
        return read_error_object(None, body)
    if isinstance(choice.get("error"), dict):
        return read_error_object(None, choice)
    if (finish := text_of(choice.get("finish_reason"))) in _FAILURES:
        return read_error_object(None, {"message": f"the server ended its answer with {finish!r}"})
    return None


def _read_call(value: Any) -> ToolCall:
    entry = object_of(value)
    function = object_of(entry.get("function") or entry.get("function_call"))
    arguments = reply_arguments_text(function.get("arguments"))
    given_id = text_of(entry.get("id")) if "function" in entry else ""
    return ToolCall(given_id, text_of(function.get("name")), arguments, call_signature(entry))


def read_usage(value: Any) -> Usage | None:
    """Parse the token counts, with the names of either API; None if the server reports none."""
    if not isinstance(value, dict):
        return None
    details = object_of(value.get("prompt_tokens_details", value.get("input_tokens_details")))
    output_details = object_of(value.get("completion_tokens_details", value.get("output_tokens_details")))
    # DeepSeek and Moonshot have their own members for cached tokens.
    words = (details.get("cached_tokens"), value.get("prompt_cache_hit_tokens"), value.get("cached_tokens"))
    cached = next((count for word in words if (count := count_of(word))), 0)
    return Usage(
        input_tokens=count_of(value.get("prompt_tokens", value.get("input_tokens"))),
        output_tokens=count_of(value.get("completion_tokens", value.get("output_tokens"))),
        cached_tokens=cached,
        cache_write_tokens=count_of(details.get("cache_write_tokens")),
        reasoning_tokens=count_of(output_details.get("reasoning_tokens")),
    )


def read_timings(value: Any) -> Timings | None:
    """Parse llama.cpp's durations (milliseconds) in whole replies and last chunks; None without them."""
    timings = object_of(value)
    prompt_ns, eval_ns = _nanoseconds(timings.get("prompt_ms")), _nanoseconds(timings.get("predicted_ms"))
    if not prompt_ns and not eval_ns:
        return None
    return Timings(total_ns=prompt_ns + eval_ns, prompt_eval_ns=prompt_ns, eval_ns=eval_ns)


def _nanoseconds(milliseconds: Any) -> int:
    known = isinstance(milliseconds, int | float) and 0 <= milliseconds < _MAX_MS
    return int(milliseconds * 1_000_000) if known else 0


def usage_fields(usage: Usage | None) -> dict[str, Any]:
    """Return the usage object; unknown counts are 0, as OpenAI's clients require the object."""
    usage = usage or Usage()
    fields: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_tokens or usage.cache_write_tokens:
        details = {"cached_tokens": usage.cached_tokens}
        if usage.cache_write_tokens:
            details["cache_write_tokens"] = usage.cache_write_tokens
        fields["prompt_tokens_details"] = details
    if usage.reasoning_tokens:
        fields["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return fields


def head_fields(identity: ReplyIdentity, kind: str) -> dict[str, Any]:
    """Return the first members of replies and chunks; `kind` is their `object`."""
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    return {
        "id": f"{prefix}-{identity.id}",
        "object": kind,
        "created": created_seconds(identity),
        "model": identity.model,
    }


def write_chat_reply(reply: Reply, identity: ReplyIdentity, options: ReplyOptions) -> dict[str, Any]:
    """Return the body of a chat completion."""
    calls = [part for part in reply.parts if isinstance(part, ToolCall)]
    text = joined_text(reply.parts, "")
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if thinking := joined_thinking(reply.parts):
        message["reasoning"] = thinking
    if details := client_details(part for part in reply.parts if isinstance(part, Thinking)):
        message[DETAILS] = details
    if calls:
        message["tool_calls"] = [write_call(call, index, identity, options) for index, call in enumerate(calls)]
    choice = {"index": 0, "message": message, "finish_reason": reply.finish.value}
    return {**head_fields(identity, "chat.completion"), "choices": [choice], "usage": usage_fields(reply.usage)}


def write_call(call: ToolCall, index: int, identity: ReplyIdentity, options: ReplyOptions) -> dict[str, Any]:
    """Return a whole call in the client's form of the tool."""
    tool = options.tools.get(call.name)
    if tool is not None and tool.custom:
        custom = {"name": tool.name, "input": input_of(call.arguments)}
        return {"id": call.id or call_id(identity, index), "type": "custom", "custom": custom}
    function = {"name": call.name, "arguments": arguments_text(call.arguments)}
    entry = {"id": call.id or call_id(identity, index), "type": "function", "function": function}
    return {**entry, **extra_content(call.signature)}


def extra_content(signature: str) -> dict[str, Any]:
    """Return a call's signature in Gemini's member."""
    return {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}


def write_completion_reply(reply: Reply, identity: ReplyIdentity, _options: ReplyOptions) -> dict[str, Any]:
    """Return the body of a completion, without reasoning, which the format lacks.

    Raises:
        UntranslatableReply: the model called a tool.
    """
    if any(isinstance(part, ToolCall) for part in reply.parts):
        raise UntranslatableReply("the model called a tool, which /v1/completions cannot express")
    text = joined_text(reply.parts, "")
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reply.finish.value}
    return {**head_fields(identity, "text_completion"), "choices": [choice], "usage": usage_fields(reply.usage)}
