"""Whole replies of `/api/chat` and `/api/generate`."""

from __future__ import annotations

from typing import Any

from ollama_router_core.translate.arguments import arguments_object, reply_arguments_text
from ollama_router_core.translate.conversation import ReplyOptions, Text, Thinking, ToolCall
from ollama_router_core.translate.errors import HostFailed, UntranslatableReply
from ollama_router_core.translate.host_errors import read_error_object
from ollama_router_core.translate.lenient_json import count_of, list_of, object_of, text_of
from ollama_router_core.translate.message_parts import joined_text, joined_thinking
from ollama_router_core.translate.replies import (
    FinishReason,
    Reply,
    ReplyIdentity,
    ReplyPart,
    Timings,
    Usage,
    read_finish,
    whole_finish,
)
from ollama_router_core.translate.timestamps import call_id, rfc3339

__all__ = [
    "content_text",
    "final_fields",
    "head_fields",
    "read_chat_reply",
    "read_generate_reply",
    "read_timings",
    "read_tool_call",
    "read_usage",
    "write_chat_reply",
    "write_generate_reply",
    "write_tool_call",
]


_COUNTS = frozenset({"prompt_eval_count", "eval_count"})


def read_chat_reply(body: dict[str, Any]) -> Reply:
    """Parse an `/api/chat` reply.

    Raises:
        HostFailed: the reply is an error.
        UntranslatableReply: there is no message.
    """
    _refuse_error(body)
    message = body.get("message")
    if not isinstance(message, dict):
        raise UntranslatableReply("the server's answer has no message")
    calls = [read_tool_call(value) for value in list_of(message.get("tool_calls"))]
    return _reply(body, text_of(message.get("thinking")), content_text(message.get("content")), calls)


def read_generate_reply(body: dict[str, Any]) -> Reply:
    """Parse an `/api/generate` reply.

    Raises:
        HostFailed: the reply is an error.
        UntranslatableReply: there is no response.
    """
    _refuse_error(body)
    if not isinstance(body.get("response"), str):
        raise UntranslatableReply("the server's answer has no response")
    return _reply(body, text_of(body.get("thinking")), text_of(body.get("response")), [])


def _refuse_error(body: dict[str, Any]) -> None:
    if body.get("error") is not None:
        raise HostFailed(read_error_object(None, body))


def _reply(body: dict[str, Any], thinking: str, text: str, calls: list[ToolCall]) -> Reply:
    parts: list[ReplyPart] = [Thinking(thinking)] if thinking else []
    if text:
        parts.append(Text(text))
    return Reply(
        parts=(*parts, *calls),
        finish=read_finish(body.get("done_reason"), called=bool(calls)),
        usage=read_usage(body),
        timings=read_timings(body),
    )


def content_text(value: Any) -> str:
    """Return the text of a content: a text, or a list of parts, as proxies for other servers send it."""
    if isinstance(value, str):
        return value
    return "".join(text_of(object_of(part).get("text")) for part in list_of(value))


def read_tool_call(value: Any) -> ToolCall:
    """Parse an entry of `tool_calls`; its id is empty if the server sent none."""
    entry = object_of(value)
    function = object_of(entry.get("function"))
    arguments = reply_arguments_text(function.get("arguments"))
    return ToolCall(text_of(entry.get("id")), text_of(function.get("name")), arguments)


def read_usage(body: dict[str, Any]) -> Usage | None:
    """Parse the token counts, None without any; Ollama omits a zero."""
    if "prompt_eval_count" not in body and "eval_count" not in body:
        return None
    return Usage(
        input_tokens=count_of(body.get("prompt_eval_count")),
        output_tokens=count_of(body.get("eval_count")),
        cached_tokens=count_of(body.get("prompt_eval_cached_count")),
    )


def read_timings(body: dict[str, Any]) -> Timings | None:
    """Parse the durations, None if the server reports none."""
    timings = Timings(
        total_ns=count_of(body.get("total_duration")),
        load_ns=count_of(body.get("load_duration")),
        prompt_eval_ns=count_of(body.get("prompt_eval_duration")),
        eval_ns=count_of(body.get("eval_duration")),
    )
    return None if timings == Timings() else timings


def write_chat_reply(reply: Reply, identity: ReplyIdentity, _options: ReplyOptions) -> dict[str, Any]:
    """Return the body of an `/api/chat` reply."""
    message: dict[str, Any] = {"role": "assistant", "content": joined_text(reply.parts, "")}
    if thinking := joined_thinking(reply.parts):
        message["thinking"] = thinking
    calls = [part for part in reply.parts if isinstance(part, ToolCall)]
    if calls:
        message["tool_calls"] = [write_tool_call(call, index, identity) for index, call in enumerate(calls)]
    return {
        **head_fields(identity, reply.timings),
        "message": message,
        **final_fields(whole_finish(reply), reply.usage, reply.timings),
    }


def write_generate_reply(reply: Reply, identity: ReplyIdentity, _options: ReplyOptions) -> dict[str, Any]:
    """Return the body of an `/api/generate` reply.

    Raises:
        UntranslatableReply: the model called a tool.
    """
    if any(isinstance(part, ToolCall) for part in reply.parts):
        raise UntranslatableReply("the model called a tool, which /api/generate cannot express")
    body = {**head_fields(identity, reply.timings), "response": joined_text(reply.parts, "")}
    if thinking := joined_thinking(reply.parts):
        body["thinking"] = thinking
    return {**body, **final_fields(reply.finish, reply.usage, reply.timings)}


def head_fields(identity: ReplyIdentity, timings: Timings | None = None) -> dict[str, Any]:
    """Return the first members of replies and chunks; `timings` has the time elapsed since the start."""
    elapsed = timings.total_ns if timings else 0
    return {"model": identity.model, "created_at": rfc3339(identity.created_ns + elapsed)}


def write_tool_call(call: ToolCall, index: int, identity: ReplyIdentity) -> dict[str, Any]:
    """Return an entry of `tool_calls`."""
    function = {"index": index, "name": call.name, "arguments": arguments_object(call.arguments)}
    return {"id": call.id or call_id(identity, index), "function": function}


def final_fields(finish: FinishReason, usage: Usage | None, timings: Timings | None) -> dict[str, Any]:
    """Return the last members of a reply or a stream, without unknown counts and durations."""
    reason = "stop" if finish is FinishReason.TOOL_CALLS else finish.value
    fields: dict[str, Any] = {"done_reason": reason, "done": True}
    durations = timings or Timings()
    numbers = {
        "total_duration": durations.total_ns,
        "load_duration": durations.load_ns,
        "prompt_eval_count": usage.input_tokens if usage else 0,
        "prompt_eval_cached_count": usage.cached_tokens if usage else 0,
        "prompt_eval_duration": durations.prompt_eval_ns,
        "eval_count": usage.output_tokens if usage else 0,
        "eval_duration": durations.eval_ns,
    }
    # Ollama omits zeros; a count known to be 0 is sent.
    counted = usage is not None
    return fields | {key: number for key, number in numbers.items() if number or (counted and key in _COUNTS)}
