"""Requests of `/v1/messages`.

Belongs here: reading them into a conversation and writing one as them.
Does not belong here: answers (`replies`), streams (`streams`), how much to think (`thinking`).

Source: the request types of Anthropic's own Python library. A schema goes into `output_config.format`. JSON without a
schema is refused: Anthropic has no such mode, and a forced tool call would change the prompt and forbid thinking.
"""

from __future__ import annotations

from typing import Any, assert_never

from ollama_router_core.translate.anthropic.thinking import read_thinking, write_thinking
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
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ollama_router_core.translate.dialects import TargetTraits
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.fields import Dropped, Fields
from ollama_router_core.translate.parts import (
    anthropic_id,
    arguments_object,
    arguments_text,
    need_messages,
)

__all__ = ["read_messages", "write_messages"]


def read_messages(body: Fields) -> Conversation:
    """The conversation of a messages request.

    Raises:
        UntranslatableRequest: a value has the wrong type, or the request wants what no other dialect has: documents,
            Anthropic's own tools, containers, remote tool servers.
    """
    for key in ("container", "mcp_servers"):
        body.refuse(key, "is known to Anthropic alone")
    output = body.child("output_config")
    choice = body.child("tool_choice")
    conversation = Conversation(
        messages=(*_read_system(body), *_read_turns(body)),
        tools=tuple(_read_tool(fields) for fields in body.children("tools")),
        tool_choice=_read_tool_choice(choice),
        parallel_tools=False if choice and choice.flag("disable_parallel_tool_use") else None,
        sampling=_read_sampling(body),
        format=_read_format(output),
        thinking=read_thinking(body, output),
        stream=body.flag("stream") is True,
    )
    if output is not None:
        output.close()
    return conversation


def _read_sampling(body: Fields) -> Sampling:
    return Sampling(
        temperature=body.number("temperature"),
        top_p=body.number("top_p"),
        top_k=body.whole("top_k"),
        max_tokens=body.whole("max_tokens"),
        stop=body.texts("stop_sequences"),
    )


def _read_system(body: Fields) -> tuple[Message, ...]:
    parts = _read_blocks(body, "system")
    return (Message(Role.SYSTEM, parts),) if parts else ()


def _read_turns(body: Fields) -> list[Message]:
    messages: list[Message] = []
    for fields in body.children("messages"):
        role = fields.need_text("role")
        if role not in {Role.USER, Role.ASSISTANT, Role.SYSTEM}:
            raise fields.wrong("role", "user, assistant or system")
        messages.extend(_turn_messages(Role(role), _read_blocks(fields, "content"), fields))
        fields.close()
    return messages


def _turn_messages(role: Role, parts: tuple[Part, ...], fields: Fields) -> list[Message]:
    """A turn as messages: the results of tools, which stand in the user's turn, are messages of their own."""
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


def _read_blocks(fields: Fields, key: str) -> tuple[Part, ...]:
    value = fields.raw(key)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (Text(value),)
    return tuple(_read_block(block) for block in fields.children(key))


def _read_block(fields: Fields) -> Part:
    part: Part
    match fields.text("type"):
        case "text":
            part = Text(fields.text("text") or "")
        case "image":
            part = _read_image(fields.need_child("source"))
        case "thinking":
            part = Thinking(fields.text("thinking") or "", fields.text("signature") or "")
        case "redacted_thinking":
            part = RedactedThinking(fields.text("data") or "")
        case "tool_use":
            arguments = arguments_text(fields.raw("input"), fields.place("input"))
            part = ToolCall(fields.need_text("id"), fields.need_text("name"), arguments)
        case "tool_result":
            content = tuple(
                part for part in _read_blocks(fields, "content") if isinstance(part, Text | Image | ImageUrl)
            )
            part = ToolResult(fields.need_text("tool_use_id"), content, fields.flag("is_error") is True)
        case _:
            raise UntranslatableRequest(
                f"{fields.where}: only text, images, thoughts, tool calls and their results can be carried over"
            )
    fields.close()
    return part


def _read_image(source: Fields) -> Image | ImageUrl:
    match source.text("type"):
        case "base64":
            return Image(source.need_text("media_type"), source.need_text("data"))
        case "url":
            return ImageUrl(source.need_text("url"))
        case _:
            raise source.wrong("type", "base64 or url: files are known to Anthropic alone")


def _read_tool(fields: Fields) -> Tool:
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


def _read_tool_choice(fields: Fields | None) -> ToolChoice | None:
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


def _read_format(output: Fields | None) -> ResponseFormat | None:
    fields = output.child("format") if output else None
    if fields is None:
        return None
    if fields.text("type") != "json_schema":
        raise fields.wrong("type", "json_schema")
    return JsonSchema(schema=fields.mapping("schema") or {})


def write_messages(conversation: Conversation, traits: TargetTraits, dropped: Dropped) -> dict[str, Any]:
    """The body of a messages request, without the model.

    Raises:
        UntranslatableRequest: no message, JSON without a schema or with one the host ignores, a text after the gap.
    """
    need_messages(conversation)
    if conversation.suffix is not None:
        raise UntranslatableRequest("suffix is for completions; Anthropic has no gap to fill")
    system, turns = _split_system(conversation.messages)
    body: dict[str, Any] = {
        "messages": _write_turns(turns, dropped),
        **_write_sampling(conversation, dropped),
        "stream": conversation.stream,
    }
    if system:
        body["system"] = system[0]["text"] if len(system) == 1 else system
    if conversation.tools:
        body["tools"] = [_write_tool(tool) for tool in conversation.tools]
        _write_tool_choice(conversation, body)
    write_thinking(conversation, traits, body, dropped)
    if conversation.format is not None:
        body.setdefault("output_config", {})["format"] = _write_format(conversation.format, traits, dropped)
    return body


def _split_system(messages: tuple[Message, ...]) -> tuple[list[dict[str, Any]], tuple[Message, ...]]:
    """The blocks of the system prompt, which stands apart, and the turns. Later system messages stay turns."""
    count = 0
    while count < len(messages) and messages[count].role is Role.SYSTEM:
        count += 1
    texts = [part.text for message in messages[:count] for part in message.parts if isinstance(part, Text)]
    return [{"type": "text", "text": text} for text in texts if text], messages[count:]


def _write_turns(messages: tuple[Message, ...], dropped: Dropped) -> list[dict[str, Any]]:
    """Turns, with neighbours of one side made one: results must stand in the turn right after their calls."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = Role.USER if message.role is Role.TOOL else message.role
        blocks = [block for part in message.parts if (block := _write_block(part, dropped)) is not None]
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role.value:
            turns[-1]["content"].extend(blocks)
        else:
            turns.append({"role": role.value, "content": blocks})
    if not turns:
        raise UntranslatableRequest("there is nothing to answer: every message is empty")
    return turns


def _write_block(part: Part, dropped: Dropped) -> dict[str, Any] | None:
    """A part as a block, None for what Anthropic refuses: empty text and thoughts that it did not sign."""
    block: dict[str, Any] | None
    match part:
        case Text(text=text):
            block = {"type": "text", "text": text} if text else None
        case Image(media_type=media_type, data=data):
            block = {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
        case ImageUrl(url=url):
            block = {"type": "image", "source": {"type": "url", "url": url}}
        case Thinking(text=text, signature=signature):
            block = {"type": "thinking", "thinking": text, "signature": signature} if signature else None
            if block is None:
                dropped.add("messages.thinking")
        case RedactedThinking(data=data):
            block = {"type": "redacted_thinking", "data": data}
        case ToolCall(id=call_id, name=name):
            block = {"type": "tool_use", "id": anthropic_id(call_id), "name": name, "input": arguments_object(part)}
        case ToolResult():
            block = _write_result(part, dropped)
        case _:
            assert_never(part)
    return block


def _write_result(result: ToolResult, dropped: Dropped) -> dict[str, Any]:
    content = [block for part in result.parts if (block := _write_block(part, dropped)) is not None]
    written: dict[str, Any] = {"type": "tool_result", "tool_use_id": anthropic_id(result.call_id), "content": content}
    if result.is_error:
        written["is_error"] = True
    return written


def _write_sampling(conversation: Conversation, dropped: Dropped) -> dict[str, Any]:
    sampling = conversation.sampling
    for key in ("min_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed"):
        if getattr(sampling, key) is not None:
            dropped.add(key)
    body = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "stop_sequences": list(sampling.stop) or None,
    }
    if sampling.temperature is not None and sampling.temperature > 1:
        # Anthropic's scale ends at 1, which is also its default: leaving it out is the nearest.
        body["temperature"] = None
        dropped.add("temperature")
    return {key: value for key, value in body.items() if value is not None}


def _write_tool(tool: Tool) -> dict[str, Any]:
    schema = dict(tool.parameters) if tool.parameters else {"type": "object", "properties": {}}
    written: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        written["description"] = tool.description
    if tool.strict is not None:
        written["strict"] = tool.strict
    return written


def _write_tool_choice(conversation: Conversation, body: dict[str, Any]) -> None:
    single = conversation.parallel_tools is False
    choice = conversation.tool_choice or (ToolChoice(mode="auto") if single else None)
    if choice is None:
        return
    match choice.mode:
        case "auto" | "none":
            written: dict[str, Any] = {"type": choice.mode}
        case "required":
            written = {"type": "any"}
        case "named":
            written = {"type": "tool", "name": choice.name}
        case _:
            assert_never(choice.mode)
    if single and choice.mode != "none":
        written["disable_parallel_tool_use"] = True
    body["tool_choice"] = written


def _write_format(wanted: ResponseFormat, traits: TargetTraits, dropped: Dropped) -> dict[str, Any]:
    match wanted:
        case JsonMode():
            raise UntranslatableRequest("Anthropic has no JSON mode without a schema; send a JSON schema as the format")
        case JsonSchema(schema=schema):
            if not traits.schemas:
                raise UntranslatableRequest("this host does not keep to a JSON schema; leave the format out")
            if wanted.strict is False:
                dropped.add("response_format.json_schema.strict")
            return {"type": "json_schema", "schema": dict(schema)}
        case _:
            assert_never(wanted)
