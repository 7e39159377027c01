"""The items of `input`, read into messages.

Source: the request types of OpenAI's own Python library. What one side says in a row (thoughts, text, calls) is one
message, in order.
"""

from __future__ import annotations

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.conversation import (
    File,
    Image,
    ImageUrl,
    Message,
    Part,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.message_parts import file_of_url, image_of_url, result_parts
from ollama_router_core.translate.signatures import read_signature

__all__ = ["NO_STATE", "PARAGRAPH", "read_input"]

NO_STATE = "needs answers that a server has stored, and the router stores none; send the whole conversation as input"
PARAGRAPH = "\n\n"
"""What stands between the parts of a summary."""


def read_input(body: JsonReader) -> list[Message]:
    """Read `input`: a text or a list of items.

    Raises:
        UntranslatableRequest: a value has the wrong type, or an item refers to stored state or belongs
            to a tool that runs on OpenAI's own servers.
    """
    value = body.raw("input")
    if value is None or isinstance(value, str):
        return [Message(Role.USER, (Text(value),))] if value else []
    messages: list[Message] = []
    turn: list[Part] = []
    for item in body.children("input"):
        message = _read_item(item)
        item.close()
        if message.role is Role.ASSISTANT:
            turn.extend(message.parts)
            continue
        if turn:
            messages.append(Message(Role.ASSISTANT, tuple(turn)))
            turn = []
        messages.append(message)
    return [*messages, Message(Role.ASSISTANT, tuple(turn))] if turn else messages


def _read_item(item: JsonReader) -> Message:
    for key in ("id", "status", "phase"):  # of earlier answers, sent back as they came
        item.raw(key)
    match item.text("type"):
        case None | "message":
            return _read_message(item)
        case "function_call":
            call = ToolCall(item.need_text("call_id"), item.need_text("name"), item.text("arguments") or "")
            return Message(Role.ASSISTANT, (call,))
        case "function_call_output":
            result = ToolResult(item.need_text("call_id"), _read_output(item))
            return Message(Role.TOOL, (result,))
        case "reasoning":
            return Message(Role.ASSISTANT, (_read_reasoning(item),))
        case "item_reference":
            raise UntranslatableRequest(f"{item.path} {NO_STATE}")
        case _:
            raise UntranslatableRequest(
                f"{item.path}: only messages, function calls, their outputs and reasoning can be carried over"
            )


def _read_message(item: JsonReader) -> Message:
    role = item.need_text("role")
    match role:
        case "system" | "developer":
            return Message(Role.SYSTEM, _read_content(item, "content"))
        case "user" | "assistant":
            return Message(Role(role), _read_content(item, "content"))
        case _:
            raise item.wrong("role", "system, developer, user or assistant")


def _read_content(item: JsonReader, key: str) -> tuple[Part, ...]:
    value = item.raw(key)
    if value is None or isinstance(value, str):
        return (Text(value),) if value else ()
    return tuple(_read_part(part) for part in item.children(key))


def _read_output(item: JsonReader) -> tuple[Text | Image | ImageUrl, ...]:
    return result_parts(_read_content(item, "output"), item.path_of("output"))


def _read_part(fields: JsonReader) -> Part:
    part: Part
    match fields.text("type"):
        case "input_text" | "output_text" | "text":
            part = Text(fields.text("text") or "")
            for key in ("annotations", "logprobs"):  # of earlier answers, sent back as they came
                fields.raw(key)
        case "refusal":
            part = Text(fields.text("refusal") or "")
        case "input_image":
            if fields.raw("detail") != "auto":
                fields.drop("detail")
            fields.refuse("file_id", NO_STATE)
            part = image_of_url(fields.need_text("image_url"), fields.path_of("image_url"))
        case "input_file":
            part = _read_file(fields)
        case _:
            raise UntranslatableRequest(f"{fields.path}: only text, images and files can be carried over")
    fields.close()
    return part


def _read_file(fields: JsonReader) -> File:
    fields.refuse("file_id", NO_STATE)
    fields.refuse("file_url", "cannot be carried over; send the file itself as file_data")
    return file_of_url(fields.need_text("file_data"), fields.text("filename") or "", fields.path_of("file_data"))


def _read_reasoning(item: JsonReader) -> Thinking:
    summary = [part.text("text") or "" for part in item.children("summary")]
    content = [part.text("text") or "" for part in item.children("content")]
    signature = read_signature(item.text("encrypted_content") or "", Family.OPENAI_RESPONSES)
    return Thinking(PARAGRAPH.join(content or summary), signature)
