"""Requests of `/v1/messages`, read into a conversation.

Source: the request types of Anthropic's own Python library.
"""

from __future__ import annotations

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.anthropic.thinking import read_thinking
from ollama_router_core.translate.arguments import read_arguments_text
from ollama_router_core.translate.conversation import (
    Conversation,
    File,
    Image,
    ImageUrl,
    JsonSchema,
    Message,
    Part,
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
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.message_parts import result_parts
from ollama_router_core.translate.signatures import read_redacted, read_signature

__all__ = ["read_messages"]


def read_messages(body: JsonReader) -> Conversation:
    """Read a messages request.

    Raises:
        UntranslatableRequest: a value has the wrong type, or the request wants what no other dialect has: documents
            by address, Anthropic's own tools, containers, remote tool servers.
    """
    for key in ("container", "mcp_servers"):
        body.refuse(key, "is supported by Anthropic only")
    output = body.child("output_config")
    choice = body.child("tool_choice")
    thinking = read_thinking(body, output)
    conversation = Conversation(
        messages=(*_read_system(body), *_read_turns(body)),
        tools=tuple(_read_tool(fields) for fields in body.children("tools")),
        tool_choice=_read_tool_choice(choice),
        parallel_tools=False if choice and choice.flag("disable_parallel_tool_use") else None,
        sampling=_read_sampling(body),
        format=_read_format(output),
        thinking=thinking,
        reasoning_summary=None if thinking in {None, ThinkingLevel.OFF} else "auto",
        stream=body.flag("stream") is True,
    )
    if output is not None:
        output.close()
    return conversation


def _read_sampling(body: JsonReader) -> Sampling:
    return Sampling(
        temperature=body.number("temperature"),
        top_p=body.number("top_p"),
        top_k=body.whole("top_k"),
        max_tokens=body.whole("max_tokens"),
        stop=body.texts("stop_sequences"),
    )


def _read_system(body: JsonReader) -> tuple[Message, ...]:
    parts = _read_blocks(body, "system")
    return (Message(Role.SYSTEM, parts),) if parts else ()


def _read_turns(body: JsonReader) -> list[Message]:
    messages: list[Message] = []
    for fields in body.children("messages"):
        role = fields.need_text("role")
        if role not in {Role.USER, Role.ASSISTANT, Role.SYSTEM}:
            raise fields.wrong("role", "user, assistant or system")
        messages.extend(_turn_messages(Role(role), _read_blocks(fields, "content"), fields))
        fields.close()
    return messages


def _turn_messages(role: Role, parts: tuple[Part, ...], fields: JsonReader) -> list[Message]:
    """Split a turn: the results of tools, which stand in the user's turn, become messages of their own."""
    messages: list[Message] = []
    run: list[Part] = []
    for part in parts:
        if not isinstance(part, ToolResult):
            run.append(part)
            continue
        if role is not Role.USER:
            raise fields.wrong("role", "user: it holds a tool_result")
        if run:
            messages.append(Message(role, tuple(run)))
            run = []
        messages.append(Message(Role.TOOL, (part,)))
    if run or not messages:
        messages.append(Message(role, tuple(run)))
    return messages


def _read_blocks(fields: JsonReader, key: str) -> tuple[Part, ...]:
    value = fields.raw(key)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (Text(value),)
    return tuple(_read_block(block) for block in fields.children(key))


def _read_block(fields: JsonReader) -> Part:
    part: Part
    match fields.text("type"):
        case "text":
            part = Text(fields.text("text") or "")
        case "image":
            part = _read_image(fields.need_child("source"))
        case "document":
            part = _read_document(fields)
        case "thinking":
            signature = read_signature(fields.text("signature") or "", Family.ANTHROPIC)
            part = Thinking(fields.text("thinking") or "", signature)
        case "redacted_thinking":
            part = Thinking("", read_redacted(fields.text("data") or ""))
        case "tool_use":
            arguments = read_arguments_text(fields.raw("input"), fields.path_of("input"))
            part = ToolCall(fields.need_text("id"), fields.need_text("name"), arguments)
        case "tool_result":
            content = result_parts(_read_blocks(fields, "content"), fields.path_of("content"))
            part = ToolResult(fields.need_text("tool_use_id"), content, fields.flag("is_error") is True)
        case _:
            raise UntranslatableRequest(
                f"{fields.path}: only text, images, documents, thinking, tool calls and results can be carried over"
            )
    fields.close()
    return part


def _read_image(source: JsonReader) -> Image | ImageUrl:
    match source.text("type"):
        case "base64":
            return Image(source.need_text("media_type"), source.need_text("data"))
        case "url":
            return ImageUrl(source.need_text("url"))
        case _:
            raise source.wrong("type", "base64 or url: files are supported by Anthropic only")


def _read_document(fields: JsonReader) -> File:
    source = fields.need_child("source")
    if source.text("type") != "base64":
        raise source.wrong("type", "base64: other documents are supported by Anthropic only")
    return File(source.need_text("media_type"), source.need_text("data"), fields.text("title") or "")


def _read_tool(fields: JsonReader) -> Tool:
    if (fields.text("type") or "custom") != "custom":
        raise fields.wrong("type", "custom: other tools run on Anthropic's own servers")
    tool = Tool(
        name=fields.need_text("name"),
        description=fields.text("description") or "",
        parameters=fields.mapping("input_schema"),
        strict=fields.flag("strict"),
    )
    fields.close()
    return tool


def _read_tool_choice(fields: JsonReader | None) -> ToolChoice | None:
    if fields is None:
        return None
    match fields.text("type"):
        case "auto":
            return ToolChoice(mode="auto")
        case "none":
            return ToolChoice(mode="none")
        case "any":
            return ToolChoice(mode="required")
        case "tool":
            return ToolChoice(mode="named", name=fields.need_text("name"))
        case _:
            raise fields.wrong("type", "auto, any, tool or none")


def _read_format(output: JsonReader | None) -> ResponseFormat | None:
    fields = output.child("format") if output else None
    if fields is None:
        return None
    if fields.text("type") != "json_schema":
        raise fields.wrong("type", "json_schema")
    return JsonSchema(schema=fields.mapping("schema") or {})
