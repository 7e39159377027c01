"""Requests of `/v1/chat/completions`, read into a conversation.

Source: the request types of OpenAI's own Python library; `reasoning_content` and `reasoning` in messages are what
vLLM, llama.cpp, DeepSeek, OpenRouter and Ollama write.
"""

from __future__ import annotations

from types import MappingProxyType

from ollama_router_core.translate.conversation import (
    Conversation,
    JsonMode,
    JsonSchema,
    Message,
    Part,
    ReplyOptions,
    ResponseFormat,
    Role,
    Sampling,
    Text,
    Thinking,
    ThinkingLevel,
    ToolCall,
    ToolChoice,
    ToolResult,
    Verbosity,
)
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.function_tools import read_tools
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.message_parts import file_of_url, image_of_url, result_parts

__all__ = ["EFFORTS", "read_chat", "read_sampling", "read_stream_options", "read_verbosity", "refuse_many"]


EFFORTS = MappingProxyType(
    {
        "none": ThinkingLevel.OFF,
        "minimal": ThinkingLevel.LOW,
        "low": ThinkingLevel.LOW,
        "medium": ThinkingLevel.MEDIUM,
        "high": ThinkingLevel.HIGH,
        "xhigh": ThinkingLevel.MAX,
        "max": ThinkingLevel.MAX,
    }
)


def read_chat(body: JsonReader) -> Conversation:
    """Read a chat completion request.

    Raises:
        UntranslatableRequest: a value has the wrong type, or the request wants what no other dialect has: several
            answers, audio, files, tools that are not functions, the functions of 2023.
    """
    refuse_many(body, "n")
    for key in ("functions", "function_call"):
        body.refuse(key, "is deprecated; use tools and tool_choice")
    for key in ("audio", "web_search_options"):
        body.refuse(key, "is supported by OpenAI only")
    if set(body.texts("modalities")) - {"text"}:
        raise UntranslatableRequest("modalities: only text can be carried over")
    return Conversation(
        messages=tuple(_read_message(fields) for fields in body.children("messages")),
        tools=read_tools(body),
        tool_choice=_read_tool_choice(body),
        parallel_tools=body.flag("parallel_tool_calls"),
        sampling=read_sampling(body),
        format=_read_format(body),
        thinking=_read_effort(body),
        verbosity=read_verbosity(body),
        stream=body.flag("stream") is True,
        reply_options=read_stream_options(body),
    )


def read_verbosity(fields: JsonReader) -> Verbosity | None:
    """Return how long an answer should be.

    Raises:
        UntranslatableRequest: it is none of the three words.
    """
    value = fields.raw("verbosity")
    match value:
        case None | "low" | "medium" | "high":
            return value
        case _:
            raise fields.wrong("verbosity", "low, medium or high")


def refuse_many(body: JsonReader, key: str) -> None:
    """Refuse to ask for several answers to one prompt.

    Raises:
        UntranslatableRequest: the number is not 1.
    """
    if body.whole(key) not in {None, 1}:
        raise UntranslatableRequest(f"{key} must be 1: the other dialects give one answer to a request")


def read_stream_options(body: JsonReader) -> ReplyOptions:
    """Read whether a stream should end with a usage chunk."""
    options = body.child("stream_options")
    return ReplyOptions(include_usage=options is not None and options.flag("include_usage") is True)


def read_sampling(body: JsonReader) -> Sampling:
    """Read the sampling options, including those that only OpenAI look-alikes know."""
    newer, older = body.whole("max_completion_tokens"), body.whole("max_tokens")
    return Sampling(
        temperature=body.number("temperature"),
        top_p=body.number("top_p"),
        top_k=body.whole("top_k"),
        min_p=body.number("min_p"),
        repeat_penalty=body.number("repeat_penalty"),
        presence_penalty=body.number("presence_penalty"),
        frequency_penalty=body.number("frequency_penalty"),
        seed=body.whole("seed"),
        max_tokens=older if newer is None else newer,
        stop=body.texts("stop"),
    )


def _read_message(fields: JsonReader) -> Message:
    role = fields.need_text("role")
    match role:
        case "system" | "developer":
            message = Message(Role.SYSTEM, _read_content(fields))
        case "user":
            message = Message(Role.USER, _read_content(fields))
        case "assistant":
            message = _read_assistant(fields)
        case "tool":
            parts = result_parts(_read_content(fields), fields.path_of("content"))
            message = Message(Role.TOOL, (ToolResult(fields.need_text("tool_call_id"), parts),))
        case _:
            raise fields.wrong("role", "system, developer, user, assistant or tool")
    fields.close()
    return message


def _read_content(fields: JsonReader) -> tuple[Part, ...]:
    value = fields.raw("content")
    if value is None:
        return ()
    if isinstance(value, str):
        return (Text(value),) if value else ()
    return tuple(_read_part(part) for part in fields.children("content"))


def _read_part(fields: JsonReader) -> Part:
    part: Part
    match fields.text("type"):
        case "text":
            part = Text(fields.text("text") or "")
        case "refusal":
            part = Text(fields.text("refusal") or "")
        case "image_url":
            image = fields.need_child("image_url")
            image.drop("detail")
            part = image_of_url(image.need_text("url"), image.path_of("url"))
        case "file":
            file = fields.need_child("file")
            file.refuse("file_id", "names a file on OpenAI's own servers; send the file itself as file_data")
            part = file_of_url(file.need_text("file_data"), file.text("filename") or "", file.path_of("file_data"))
        case _:
            raise UntranslatableRequest(f"{fields.path}: only text, images and files can be carried over")
    fields.close()
    return part


def _read_assistant(fields: JsonReader) -> Message:
    thinking = fields.text("reasoning_content") or fields.text("reasoning")
    fields.refuse("function_call", "is deprecated; use tool_calls")
    fields.refuse("audio", "is supported by OpenAI only")
    refusal = fields.text("refusal")
    parts: list[Part] = [Thinking(thinking)] if thinking else []
    parts.extend(_read_content(fields))
    if refusal:
        parts.append(Text(refusal))
    parts.extend(_read_call(child) for child in fields.children("tool_calls"))
    return Message(Role.ASSISTANT, tuple(parts))


def _read_call(fields: JsonReader) -> ToolCall:
    if (fields.text("type") or "function") != "function":
        raise fields.wrong("type", "function")
    function = fields.need_child("function")
    return ToolCall(fields.need_text("id"), function.need_text("name"), function.text("arguments") or "")


def _read_tool_choice(body: JsonReader) -> ToolChoice | None:
    value = body.raw("tool_choice")
    match value:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=value)
        case {"type": "function"}:
            function = body.need_child("tool_choice").need_child("function")
            return ToolChoice(mode="named", name=function.need_text("name"))
        case _:
            raise body.wrong("tool_choice", "auto, none, required or one function")


def _read_format(body: JsonReader) -> ResponseFormat | None:
    fields = body.child("response_format")
    if fields is None:
        return None
    match fields.text("type"):
        case "text":
            return None
        case "json_object":
            return JsonMode()
        case "json_schema":
            schema = fields.need_child("json_schema")
            return JsonSchema(
                schema=schema.mapping("schema") or {},
                name=schema.text("name") or "",
                strict=schema.flag("strict"),
            )
        case _:
            raise fields.wrong("type", "text, json_object or json_schema")


def _read_effort(body: JsonReader) -> ThinkingLevel | None:
    effort = body.text("reasoning_effort")
    if effort is None:
        nested = body.child("reasoning")
        effort = nested.text("effort") if nested else None
    if effort is None:
        return None
    level = EFFORTS.get(effort)
    if level is None:
        raise body.wrong("reasoning_effort", ", ".join(EFFORTS))
    return level
