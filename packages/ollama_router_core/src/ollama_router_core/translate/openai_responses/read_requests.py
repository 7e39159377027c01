"""Parsing of `/v1/responses` requests into a conversation.

Source: the request types of OpenAI's own Python library. Requests for stored state are rejected.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ollama_router_core.translate.conversation import (
    ClientTool,
    Conversation,
    JsonMode,
    Message,
    ReasoningSummary,
    ReplyOptions,
    ResponseFormat,
    Role,
    Sampling,
    Text,
    Tool,
)
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.function_tools import (
    custom_tool,
    fitting_choice,
    function_name,
    read_function,
)
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.openai.read_requests import (
    allowed_tools,
    read_effort,
    read_person,
    read_schema,
    read_tool_choice,
    read_verbosity,
)
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
"""Members that a response repeats from its request."""


def _refuse_state(body: JsonReader) -> None:
    """Reject members that require stored responses, and accept those unrelated to the conversation."""
    for key in _STATEFUL:
        body.refuse(key, NO_STATE)
    body.refuse("background", "needs a server that stores responses; use a stream instead")
    body.refuse("store", NO_STATE)
    for key in ("store", "stream_options", "metadata", "include", "truncation"):
        body.raw(key)


def read_response_request(body: JsonReader) -> Conversation:
    """Parse the conversation of a request.

    The default of `store`, true, is not rejected, as most clients never retrieve stored responses.

    Raises:
        UntranslatableRequest: a value has the wrong type, or the request requires stored state or runs in the
            background.
    """
    _refuse_state(body)
    tools, known = _read_tools(body)
    tools = allowed_tools(tools, body)
    text = body.child("text")
    conversation = Conversation(
        messages=(*_read_instructions(body), *read_input(body)),
        tools=tools,
        tool_choice=fitting_choice(read_tool_choice(body), tools, body),
        parallel_tools=body.flag("parallel_tool_calls"),
        sampling=Sampling(
            temperature=body.number("temperature"),
            top_p=body.number("top_p"),
            max_tokens=body.whole("max_output_tokens"),
        ),
        format=_read_format(text),
        verbosity=read_verbosity(text) if text else None,
        stream=body.flag("stream") is True,
        reply_options=ReplyOptions(echo=_echo(body.values), tools=known),
        **_read_reasoning(body),
        **read_person(body),
    )
    if text is not None:
        text.close()
    return conversation


def _echo(values: dict[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in _ECHOED if values.get(key) is not None}


def _read_instructions(body: JsonReader) -> list[Message]:
    text = body.text("instructions")
    return [Message(Role.SYSTEM, (Text(text),))] if text else []


def _read_tools(body: JsonReader) -> tuple[tuple[Tool, ...], dict[str, ClientTool]]:
    """Parse the tools that the client runs: functions, free-text tools, and groups of both; drop and list others."""
    tools: list[Tool] = []
    known: dict[str, ClientTool] = {}
    for fields in body.children("tools"):
        _read_tool(fields, body, tools, known)
    return tuple(tools), known


def _read_tool(
    fields: JsonReader, body: JsonReader, tools: list[Tool], known: dict[str, ClientTool], namespace: str = ""
) -> None:
    match fields.text("type"):
        case "function":
            tool = read_function(fields)
            custom = False
        case "custom":
            tool, custom = custom_tool(fields), True
        case "namespace" if not namespace:
            for inner in fields.children("tools"):
                _read_tool(inner, body, tools, known, fields.need_text("name"))
            return
        case kind:
            body.note(f"tools.{kind or '?'}")
            return
    fields.close()
    name = function_name(namespace, tool.name)
    if custom or namespace:
        known[name] = ClientTool(name=tool.name, custom=custom, namespace=namespace)
    tools.append(replace(tool, name=name))


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
            return read_schema(fields)
        case _:
            raise fields.wrong("type", "text, json_object or json_schema")


def _read_reasoning(body: JsonReader) -> dict[str, Any]:
    fields = body.child("reasoning")
    if fields is None:
        return {}
    found = {"thinking": read_effort(fields, "effort"), "reasoning_summary": _read_summary(fields)}
    fields.close()
    return found


def _read_summary(fields: JsonReader) -> ReasoningSummary | None:
    older = fields.raw("generate_summary")
    value = fields.raw("summary") or older
    match value:
        case None | "auto" | "concise" | "detailed":
            return value
        case _:
            raise UntranslatableRequest(f"{fields.path_of('summary')} must be auto, concise or detailed")
