"""Parsing of `/v1/messages` requests into a conversation.

Source: the request types of Anthropic's own Python library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.anthropic.thinking import read_thinking
from ollama_router_core.translate.arguments import read_arguments_text
from ollama_router_core.translate.conversation import (
    Conversation,
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
from ollama_router_core.translate.documents import text_file
from ollama_router_core.translate.function_tools import fitting_choice, read_cache
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.lenient_json import object_of
from ollama_router_core.translate.message_parts import file_of, left_out, read_source, result_parts
from ollama_router_core.translate.signatures import is_tagged, read_redacted, read_signature
from ollama_router_core.translate.tool_schemas import object_schema

__all__ = ["read_messages"]

_TIERS = MappingProxyType({"standard_only": "default"})


def read_messages(body: JsonReader) -> Conversation:
    """Read a messages request.

    Raises:
        UntranslatableRequest: a value has the wrong type.
    """
    body.drop("container", "mcp_servers")
    tools = _read_tools(body)
    output = body.child("output_config")
    choice = body.child("tool_choice")
    thinking = read_thinking(body, output)
    conversation = Conversation(
        messages=(*_read_system(body), *_read_turns(body)),
        tools=tools,
        tool_choice=fitting_choice(_read_tool_choice(choice), tools, body),
        parallel_tools=False if choice and choice.flag("disable_parallel_tool_use") else None,
        sampling=_read_sampling(body),
        format=_read_format(output),
        thinking=thinking,
        reasoning_summary=None if thinking in {None, ThinkingLevel.OFF} else "auto",
        stream=body.flag("stream") is True,
        user=_read_user(body),
        service_tier=_read_tier(body),
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


def _read_user(body: JsonReader) -> str | None:
    metadata = body.child("metadata")
    if metadata is None:
        return None
    user = metadata.raw("user_id")
    metadata.close()
    return user if isinstance(user, str) and user else None


def _read_tier(body: JsonReader) -> str | None:
    tier = body.text("service_tier")
    return _TIERS.get(tier, tier) if tier else None


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
    """Split a turn: tool results, which are in the user's turn, become separate messages."""
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
    blocks = [fields.need_child(key)] if isinstance(value, dict) else fields.children(key)
    return tuple(part for block in blocks for part in _read_block(block))


def _read_block(fields: JsonReader) -> list[Part]:
    kind = fields.text("type") or ""
    cache = read_cache(fields)
    parts = _BLOCKS.get(kind, _left_out)(fields)
    if kind not in _BLOCKS:
        return parts
    fields.close()
    last = parts[-1] if parts else None
    if cache and not isinstance(last, Thinking | ToolCall | None):
        parts[-1] = replace(last, cache=cache)
    return parts


def _left_out(fields: JsonReader) -> list[Part]:
    """List a block that only Anthropic's servers can read, such as results of their tools; return its text, if any."""
    fields.note(fields.text("type") or "type")
    text = fields.raw("text") or object_of(fields.raw("resource")).get("text")
    return [Text(text)] if isinstance(text, str) else []


def _read_thinking(fields: JsonReader) -> list[Part]:
    signature = read_signature(fields.text("signature") or "", Family.ANTHROPIC)
    return [Thinking(fields.text("thinking") or "", signature)]


def _read_redacted(fields: JsonReader) -> list[Part]:
    data = fields.text("data") or ""
    return [Thinking("", data if is_tagged(data) else read_redacted(data))]


def _read_call(fields: JsonReader) -> list[Part]:
    arguments = read_arguments_text(fields.raw("input"), fields.path_of("input"))
    return [ToolCall(fields.need_text("id"), fields.need_text("name"), arguments)]


def _read_result(fields: JsonReader) -> list[Part]:
    content = result_parts(_read_blocks(fields, "content"))
    return [ToolResult(fields.need_text("tool_use_id"), content, fields.flag("is_error") is True)]


def _read_found(fields: JsonReader) -> list[Part]:
    """Parse a search result: title and address precede the texts."""
    head = " ".join(filter(None, (fields.text("title"), fields.text("source"))))
    return [*([Text(head)] if head else []), *_read_blocks(fields, "content")]


def _read_document(fields: JsonReader) -> list[Part]:
    source = fields.need_child("source")
    title = fields.text("title") or ""
    kind = source.text("type")
    if kind == "text":
        return [text_file(source.text("data") or "", title)]
    if kind == "content":
        return [*([Text(title)] if title else []), *_read_blocks(source, "content")]
    text = source.raw("data") or source.raw("url")
    file = file_of(text, title, source.text("media_type") or "") if isinstance(text, str) else None
    return [file or left_out(fields, "source", f"the file {title!r}" if title else "a file")]


_BLOCKS: Mapping[str, Callable[[JsonReader], list[Part]]] = MappingProxyType(
    {
        "text": lambda fields: [Text(fields.text("text") or "")],
        "image": lambda fields: [read_source(fields)],
        "document": _read_document,
        "search_result": _read_found,
        "thinking": _read_thinking,
        "redacted_thinking": _read_redacted,
        "tool_use": _read_call,
        "tool_result": _read_result,
    }
)


def _read_tools(body: JsonReader) -> tuple[Tool, ...]:
    """Parse the tools that clients run. Tools run or defined by Anthropic are listed as dropped."""
    tools: list[Tool] = []
    for fields in body.children("tools"):
        kind = fields.text("type") or "custom"
        if kind == "custom":
            tools.append(_read_tool(fields))
        else:
            body.note(f"tools.{kind}")
    return tuple(tools)


def _read_tool(fields: JsonReader) -> Tool:
    tool = Tool(
        name=fields.need_text("name"),
        description=fields.text("description") or "",
        parameters=object_schema(fields.mapping("input_schema")),
        strict=fields.flag("strict"),
        cache=read_cache(fields),
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
