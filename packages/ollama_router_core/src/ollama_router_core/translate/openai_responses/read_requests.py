"""Requests of `/v1/responses`, read into a conversation.

Source: the request types of OpenAI's own Python library. The router keeps no answers: what asks for one is refused.
"""

from __future__ import annotations

from typing import Any

from ollama_router_core.translate.conversation import (
    Conversation,
    JsonMode,
    JsonSchema,
    Message,
    ReasoningSummary,
    ReplyOptions,
    ResponseFormat,
    Role,
    Sampling,
    Text,
    ThinkingLevel,
    Tool,
    ToolChoice,
)
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.openai.read_requests import EFFORTS, read_verbosity
from ollama_router_core.translate.openai_responses.read_items import NO_STATE, read_input

__all__ = ["read_response_request"]

_STATEFUL = ("previous_response_id", "conversation", "prompt")
_ECHOED = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
)
"""Values that a response repeats from its request."""


def read_response_request(body: JsonReader) -> Conversation:
    """Read the conversation of a request.

    `store` is accepted, since clients leave it to its default of true, and means nothing: nothing is stored.

    Raises:
        UntranslatableRequest: a value has the wrong type, or the request wants stored state, an answer in the
            background, or tools that are not functions.
    """
    for key in _STATEFUL:
        body.refuse(key, NO_STATE)
    body.refuse("background", "needs a server that keeps answers; ask for a stream instead")
    for key in ("store", "stream_options", "metadata", "include", "truncation"):
        body.raw(key)
    text = body.child("text")
    conversation = Conversation(
        messages=(*_read_instructions(body), *read_input(body)),
        tools=tuple(_read_tool(fields) for fields in body.children("tools")),
        tool_choice=_read_tool_choice(body),
        parallel_tools=body.flag("parallel_tool_calls"),
        sampling=Sampling(
            temperature=body.number("temperature"),
            top_p=body.number("top_p"),
            max_tokens=body.whole("max_output_tokens"),
        ),
        format=_read_format(text),
        verbosity=read_verbosity(text) if text else None,
        stream=body.flag("stream") is True,
        reply_options=ReplyOptions(echo=_echo(body.values)),
        **_read_reasoning(body),
    )
    if text is not None:
        text.close()
    return conversation


def _echo(values: dict[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in _ECHOED if values.get(key) is not None}


def _read_instructions(body: JsonReader) -> list[Message]:
    text = body.text("instructions")
    return [Message(Role.SYSTEM, (Text(text),))] if text else []


def _read_tool(fields: JsonReader) -> Tool:
    if fields.text("type") != "function":
        raise fields.wrong("type", "function: other tools run on OpenAI's own servers")
    tool = Tool(
        name=fields.need_text("name"),
        description=fields.text("description") or "",
        parameters=fields.mapping("parameters"),
        strict=fields.flag("strict"),
    )
    fields.close()
    return tool


def _read_tool_choice(body: JsonReader) -> ToolChoice | None:
    value = body.raw("tool_choice")
    match value:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=value)
        case {"type": "function"}:
            return ToolChoice(mode="named", name=body.need_child("tool_choice").need_text("name"))
        case _:
            raise body.wrong("tool_choice", "auto, none, required or one function")


def _read_format(text: JsonReader | None) -> ResponseFormat | None:
    fields = text.child("format") if text else None
    if fields is None:
        return None
    match fields.text("type"):
        case "text":
            return None
        case "json_object":
            return JsonMode()
        case "json_schema":
            return JsonSchema(
                schema=fields.mapping("schema") or {},
                name=fields.text("name") or "",
                strict=fields.flag("strict"),
            )
        case _:
            raise fields.wrong("type", "text, json_object or json_schema")


def _read_reasoning(body: JsonReader) -> dict[str, Any]:
    fields = body.child("reasoning")
    if fields is None:
        return {}
    found = {"thinking": _read_effort(fields), "reasoning_summary": _read_summary(fields)}
    fields.close()
    return found


def _read_effort(fields: JsonReader) -> ThinkingLevel | None:
    effort = fields.text("effort")
    if effort is None:
        return None
    if effort not in EFFORTS:
        raise fields.wrong("effort", ", ".join(EFFORTS))
    return EFFORTS[effort]


def _read_summary(fields: JsonReader) -> ReasoningSummary | None:
    older = fields.raw("generate_summary")
    value = fields.raw("summary") or older
    match value:
        case None | "auto" | "concise" | "detailed":
            return value
        case _:
            raise UntranslatableRequest(f"{fields.path_of('summary')} must be auto, concise or detailed")
