"""Requests of `/v1/chat/completions`.

Belongs here: reading them into a conversation and writing one as them.
Does not belong here: `/v1/completions` (`completions`), answers (`replies`), streams (`streams`).

Source: the request types of OpenAI's own Python library; `reasoning_content` and `reasoning` in messages are what
vLLM, llama.cpp, DeepSeek, OpenRouter and Ollama write.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, assert_never

from ollama_router_core.translate.conversation import (
    Conversation,
    Image,
    ImageUrl,
    JsonMode,
    JsonSchema,
    Message,
    Part,
    RedactedThinking,
    ResponseFormat,
    Role,
    Sampling,
    Text,
    Thinking,
    ThinkingLevel,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ollama_router_core.translate.dialects import TargetTraits
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.fields import Dropped, Fields
from ollama_router_core.translate.ollama.requests import read_tools
from ollama_router_core.translate.parts import data_url, image_of_url, joined_text, joined_thinking, need_messages

__all__ = ["read_chat", "read_sampling", "read_stream_options", "refuse_many", "write_chat", "write_sampling"]

_EFFORTS = MappingProxyType(
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
_LEVELS = MappingProxyType(
    {
        ThinkingLevel.ON: "medium",
        ThinkingLevel.LOW: "low",
        ThinkingLevel.MEDIUM: "medium",
        ThinkingLevel.HIGH: "high",
        ThinkingLevel.MAX: "xhigh",
    }
)


def read_chat(body: Fields) -> Conversation:
    """The conversation of a chat completion.

    Raises:
        UntranslatableRequest: a value has the wrong type, or the request wants what no other dialect has: several
            answers, audio, files, tools that are not functions, the functions of 2023.
    """
    refuse_many(body, "n")
    for key in ("functions", "function_call"):
        body.refuse(key, "is the form of 2023; use tools and tool_choice")
    for key in ("audio", "web_search_options"):
        body.refuse(key, "is known to OpenAI alone")
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
        stream=body.flag("stream") is True,
        include_usage=read_stream_options(body),
    )


def refuse_many(body: Fields, key: str) -> None:
    """Refuse a wish for several answers to one prompt.

    Raises:
        UntranslatableRequest: the number is not 1.
    """
    if body.whole(key) not in {None, 1}:
        raise UntranslatableRequest(f"{key} must be 1: the other dialects give one answer to a request")


def read_stream_options(body: Fields) -> bool:
    """Whether a usage chunk is wanted at the end of a stream."""
    options = body.child("stream_options")
    return options is not None and options.flag("include_usage") is True


def read_sampling(body: Fields) -> Sampling:
    """The sampling options, with those that only look-alikes of OpenAI know."""
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


def _read_message(fields: Fields) -> Message:
    role = fields.need_text("role")
    match role:
        case "system" | "developer":
            message = Message(Role.SYSTEM, _read_content(fields))
        case "user":
            message = Message(Role.USER, _read_content(fields))
        case "assistant":
            message = _read_assistant(fields)
        case "tool":
            texts = tuple(part for part in _read_content(fields) if isinstance(part, Text | Image | ImageUrl))
            message = Message(Role.TOOL, (ToolResult(fields.need_text("tool_call_id"), texts),))
        case _:
            raise fields.wrong("role", "system, developer, user, assistant or tool")
    fields.close()
    return message


def _read_content(fields: Fields) -> tuple[Part, ...]:
    value = fields.raw("content")
    if value is None:
        return ()
    if isinstance(value, str):
        return (Text(value),) if value else ()
    return tuple(_read_part(part) for part in fields.children("content"))


def _read_part(fields: Fields) -> Part:
    part: Part
    match fields.text("type"):
        case "text":
            part = Text(fields.text("text") or "")
        case "refusal":
            part = Text(fields.text("refusal") or "")
        case "image_url":
            image = fields.need_child("image_url")
            image.drop("detail")
            part = image_of_url(image.need_text("url"), image.place("url"))
        case _:
            raise UntranslatableRequest(f"{fields.where}: only text and images can be carried over")
    fields.close()
    return part


def _read_assistant(fields: Fields) -> Message:
    thinking = fields.text("reasoning_content") or fields.text("reasoning")
    fields.refuse("function_call", "is the form of 2023; use tool_calls")
    fields.refuse("audio", "is known to OpenAI alone")
    refusal = fields.text("refusal")
    parts: list[Part] = [Thinking(thinking)] if thinking else []
    parts.extend(_read_content(fields))
    if refusal:
        parts.append(Text(refusal))
    parts.extend(_read_call(child) for child in fields.children("tool_calls"))
    return Message(Role.ASSISTANT, tuple(parts))


def _read_call(fields: Fields) -> ToolCall:
    if (fields.text("type") or "function") != "function":
        raise fields.wrong("type", "function")
    function = fields.need_child("function")
    return ToolCall(fields.need_text("id"), function.need_text("name"), function.text("arguments") or "")


def _read_tool_choice(body: Fields) -> ToolChoice | None:
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


def _read_format(body: Fields) -> ResponseFormat | None:
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


def _read_effort(body: Fields) -> ThinkingLevel | None:
    effort = body.text("reasoning_effort")
    if effort is None:
        nested = body.child("reasoning")
        effort = nested.text("effort") if nested else None
    if effort is None:
        return None
    level = _EFFORTS.get(effort)
    if level is None:
        raise body.wrong("reasoning_effort", ", ".join(_EFFORTS))
    return level


def write_chat(conversation: Conversation, traits: TargetTraits, dropped: Dropped) -> dict[str, Any]:
    """The body of a chat completion, without the model. A stream is always asked for its usage.

    Raises:
        UntranslatableRequest: no message, an image in a tool's result, a text after the gap.
    """
    need_messages(conversation)
    if conversation.suffix is not None:
        raise UntranslatableRequest("suffix is for completions; a chat has no gap to fill")
    body: dict[str, Any] = {
        "messages": [_write_message(message, traits, dropped) for message in conversation.messages],
        **write_sampling(conversation, traits, dropped),
    }
    if conversation.tools:
        body["tools"] = [_write_tool(tool) for tool in conversation.tools]
        _write_tool_choice(conversation, body)
    if conversation.format is not None:
        body["response_format"] = _write_format(conversation.format)
    if conversation.thinking is ThinkingLevel.OFF:
        # Models that cannot think refuse the option altogether, and for them this is already so.
        dropped.add("think")
    elif conversation.thinking is not None:
        body["reasoning_effort"] = _LEVELS[conversation.thinking]
    return body


def write_sampling(conversation: Conversation, traits: TargetTraits, dropped: Dropped) -> dict[str, Any]:
    """Sampling and stream options, as both kinds of completions take them."""
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
        "stream_options": {"include_usage": True} if conversation.stream else None,
    }
    extensions = {"top_k": sampling.top_k, "min_p": sampling.min_p, "repeat_penalty": sampling.repeat_penalty}
    for key, value in extensions.items():
        if value is not None and traits.extensions:
            body[key] = value
        elif value is not None:
            dropped.add(key)
    return {key: value for key, value in body.items() if value is not None}


def _write_message(message: Message, traits: TargetTraits, dropped: Dropped) -> dict[str, Any]:
    result = message.parts[0] if message.parts else None
    if isinstance(result, ToolResult):
        return _write_result(result, dropped)
    if message.role is Role.ASSISTANT:
        return _write_assistant(message, traits, dropped)
    return {"role": message.role.value, "content": _write_content(message.parts)}


def _write_content(parts: tuple[Part, ...]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text) for part in parts):
        return joined_text(parts, "\n")
    written: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case Text(text=text):
                written.append({"type": "text", "text": text})
            case Image():
                written.append({"type": "image_url", "image_url": {"url": data_url(part)}})
            case ImageUrl(url=url):
                written.append({"type": "image_url", "image_url": {"url": url}})
            case _:
                raise UntranslatableRequest("only an assistant's message may hold thoughts and tool calls")
    return written


def _write_assistant(message: Message, traits: TargetTraits, dropped: Dropped) -> dict[str, Any]:
    if any(isinstance(part, Image | ImageUrl) for part in message.parts):
        raise UntranslatableRequest("an assistant's message cannot hold an image in OpenAI's dialect")
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    text = joined_text(message.parts, "")
    written: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if calls:
        written["tool_calls"] = [_write_call(call) for call in calls]
    thinking = joined_thinking(message.parts)
    if thinking and traits.extensions:
        written["reasoning_content"] = thinking
    elif thinking or any(isinstance(part, RedactedThinking) for part in message.parts):
        dropped.add("messages.thinking")
    return written


def _write_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}


def _write_result(result: ToolResult, dropped: Dropped) -> dict[str, Any]:
    if not all(isinstance(part, Text) for part in result.parts):
        raise UntranslatableRequest("a tool's result cannot hold an image in OpenAI's dialect")
    if result.is_error:
        dropped.add("messages.content.is_error")
    return {"role": "tool", "tool_call_id": result.call_id, "content": joined_text(result.parts, "\n")}


def _write_tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = dict(tool.parameters)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _write_tool_choice(conversation: Conversation, body: dict[str, Any]) -> None:
    choice = conversation.tool_choice
    if choice is not None:
        named = {"type": "function", "function": {"name": choice.name}}
        body["tool_choice"] = named if choice.mode == "named" else choice.mode
    if conversation.parallel_tools is not None:
        body["parallel_tool_calls"] = conversation.parallel_tools


def _write_format(wanted: ResponseFormat) -> dict[str, Any]:
    match wanted:
        case JsonMode():
            return {"type": "json_object"}
        case JsonSchema():
            schema: dict[str, Any] = {"name": wanted.name or "answer", "schema": dict(wanted.schema)}
            if wanted.strict is not None:
                schema["strict"] = wanted.strict
            return {"type": "json_schema", "json_schema": schema}
        case _:
            assert_never(wanted)
