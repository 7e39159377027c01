"""Parsing of the items of `input` into messages.

Source: the request types of OpenAI's own Python library. Consecutive items of one role (reasoning, text, calls) become
one message, in order.
"""

from __future__ import annotations

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.arguments import read_arguments_text
from ollama_router_core.translate.conversation import Message, Part, Role, Text, Thinking, ToolCall, ToolResult
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.function_tools import INPUT, function_name, input_arguments
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.message_parts import result_parts
from ollama_router_core.translate.openai.read_parts import read_content
from ollama_router_core.translate.signatures import read_signature

__all__ = ["NO_STATE", "PARAGRAPH", "read_input"]

NO_STATE = (
    "needs stored responses, and the router stores none: set store to false, leave out"
    " previous_response_id, and send the whole conversation as input, including the items of earlier"
    " answers (an administrator can enable storage: responses.store)"
)
PARAGRAPH = "\n\n"
"""The separator between parts of a summary."""


def read_input(body: JsonReader) -> list[Message]:
    """Parse `input`: a text or a list of items.

    Raises:
        UntranslatableRequest: a value has the wrong type, or an item refers to stored state.
    """
    value = body.raw("input")
    if value is None or isinstance(value, str):
        return [Message(Role.USER, (Text(value),))] if value else []
    messages: list[Message] = []
    turn: list[Part] = []
    for item in body.children("input"):
        message = _read_item(item)
        if message is None:
            continue
        item.close()
        if message.role is Role.ASSISTANT:
            turn.extend(message.parts)
            continue
        if turn:
            messages.append(Message(Role.ASSISTANT, tuple(turn)))
            turn = []
        messages.append(message)
    return [*messages, Message(Role.ASSISTANT, tuple(turn))] if turn else messages


def _read_item(item: JsonReader) -> Message | None:
    for key in ("id", "status", "phase"):  # members of earlier replies, sent back unchanged
        item.raw(key)
    match item.text("type"):
        case None | "message":
            return _read_message(item)
        case "function_call":
            arguments = read_arguments_text(item.raw("arguments") or "", item.path_of("arguments"))
            return _called(item, function_name(item.text("namespace") or "", item.need_text("name")), arguments)
        case "custom_tool_call":
            return _called(item, item.need_text("name"), input_arguments(item.text(INPUT) or ""))
        case "function_call_output" | "custom_tool_call_output":
            result = ToolResult(item.need_text("call_id"), result_parts(read_content(item, "output")))
            return Message(Role.TOOL, (result,))
        case "reasoning":
            return Message(Role.ASSISTANT, (_read_reasoning(item),))
        case "item_reference":
            raise UntranslatableRequest(f"{item.path} {NO_STATE}")
        case kind:
            # Results of OpenAI's own tools, and items that only its models can read.
            item.note(kind)
            return None


def _called(item: JsonReader, name: str, arguments: str) -> Message:
    return Message(Role.ASSISTANT, (ToolCall(item.need_text("call_id"), name, arguments),))


def _read_message(item: JsonReader) -> Message:
    role = item.need_text("role")
    match role:
        case "system" | "developer":
            return Message(Role.SYSTEM, read_content(item, "content"))
        case "user" | "assistant":
            return Message(Role(role), read_content(item, "content"))
        case _:
            raise item.wrong("role", "system, developer, user or assistant")


def _read_reasoning(item: JsonReader) -> Thinking:
    summary = [part.text("text") or "" for part in item.children("summary")]
    content = [part.text("text") or "" for part in item.children("content")]
    signature = read_signature(item.text("encrypted_content") or "", Family.OPENAI_RESPONSES)
    return Thinking(PARAGRAPH.join(content or summary), signature)
