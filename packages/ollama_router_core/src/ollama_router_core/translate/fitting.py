"""Conversion of a conversation to what a host accepts: unsupported content becomes the nearest equivalent.

This is one pass for all dialects, so writers need no checks. Nothing is rejected here: otherwise a conversation with an
unsupported image would fail at every further turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, assert_never

from msgspec.structs import replace

from ollama_router_core.translate.accepts import Accepts
from ollama_router_core.translate.call_ids import fitted_id
from ollama_router_core.translate.conversation import (
    Conversation,
    File,
    FileUrl,
    Image,
    ImageUrl,
    Message,
    Part,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from ollama_router_core.translate.documents import PDF, document_text, is_text
from ollama_router_core.translate.json_reader import Dropped
from ollama_router_core.translate.message_parts import call_names
from ollama_router_core.translate.paired_results import paired

__all__ = ["fitted"]

_Media = Image | ImageUrl | File | FileUrl
_SYSTEM_OPEN, _SYSTEM_CLOSE = "<system>\n", "\n</system>"
_Marked = TypeVar("_Marked", bound=Text | Image | ImageUrl | File | FileUrl | ToolResult)


def fitted(conversation: Conversation, accepts: Accepts, dropped: Dropped) -> Conversation:
    """Return the conversation for a host that accepts `accepts`."""
    messages: Iterable[Message] = (_fitted_message(message, accepts, dropped) for message in conversation.messages)
    if accepts.paired:
        messages = paired(messages)
    if not (accepts.result_images and accepts.result_files):
        messages = _without_media_in_results(list(messages), accepts, call_names(conversation))
    messages = [message for message in messages if message.parts or message.role is not Role.ASSISTANT]
    return replace(
        conversation,
        messages=tuple(_with_ids(message, accepts) for message in _ordered(messages, accepts)),
        tools=tuple(_fitted_tool(tool, accepts, dropped) for tool in conversation.tools),
    )


# --- parts ----------------------------------------------------------------------------------------


def _fitted_message(message: Message, accepts: Accepts, dropped: Dropped) -> Message:
    path = "system" if message.role is Role.SYSTEM else "messages.content"
    parts = tuple(_fitted_part(part, accepts, dropped, path) for part in message.parts)
    return message if parts == message.parts else Message(message.role, parts)


def _fitted_part(part: Part, accepts: Accepts, dropped: Dropped, path: str) -> Part:
    match part:
        case Text() | Image() | ImageUrl() | File() | FileUrl():
            return _fitted_media(_unmarked(part, accepts, dropped, path), accepts, dropped, path)
        case ToolResult():
            result = _unmarked(part, accepts, dropped, path)
            inner = (_unmarked(inner, accepts, dropped, path) for inner in result.parts)
            return replace(result, parts=tuple(_fitted_media(one, accepts, dropped, path) for one in inner))
        case Thinking() | ToolCall():
            return part
        case _:
            assert_never(part)


def _unmarked(part: _Marked, accepts: Accepts, dropped: Dropped, path: str) -> _Marked:
    if not part.cache or accepts.cache_marks:
        return part
    dropped.add(f"{path}.cache_control")
    return replace(part, cache="")


def _fitted_media(part: Text | _Media, accepts: Accepts, dropped: Dropped, path: str) -> Text | _Media:
    match part:
        case Text():
            return part
        case Image(media_type=kind):
            if kind and (accepts.image_types is None or kind in accepts.image_types):
                return part
            what = f"an image of the type {kind}" if kind else "an image of an unknown type"
            return _note(what, "image", dropped, path)
        case ImageUrl(url=url):
            return part if accepts.image_addresses else _note(f"an image at {url}", "image_url", dropped, path)
        case File():
            return _fitted_file(part, accepts, dropped, path)
        case FileUrl(url=url):
            return part if accepts.file_addresses else _note(f"a file at {url}", "file_url", dropped, path)
        case _:
            assert_never(part)


def _fitted_file(file: File, accepts: Accepts, dropped: Dropped, path: str) -> Text | File:
    if file.media_type in accepts.file_types:
        return file
    text = document_text(file)
    title = f' title="{file.name}"' if file.name else ""
    if text is not None:
        if file.media_type == PDF:
            dropped.add(f"{path}.file.layout")
        return Text(f"<document{title}>\n{text}\n</document>", file.cache)
    if is_text(file):
        return Text(f"<document{title}></document>", file.cache)
    named = f"the file {file.name}" if file.name else "a file"
    return _note(f"{named} of the type {file.media_type}", "file", dropped, path)


def _note(what: str, name: str, dropped: Dropped, path: str) -> Text:
    dropped.add(f"{path}.{name}")
    return Text(f"[{what} was left out: this model cannot read it]")


# --- images and files in results ------------------------------------------------------------------


def _without_media_in_results(messages: list[Message], accepts: Accepts, names: dict[str, str]) -> Iterator[Message]:
    """Move unsupported media of results into the user's turn after the results, labelled with the call."""
    moved: list[Part] = []
    for message in messages:
        if message.role is Role.TOOL:
            kept, media = _split_results(message, accepts, names)
            moved.extend(media)
            yield kept
            continue
        if moved and message.role is Role.USER:
            message = Message(Role.USER, (*moved, *message.parts))  # noqa: PLW2901 - the turn that takes them along
        elif moved:
            yield Message(Role.USER, tuple(moved))
        moved = []
        yield message
    if moved:
        yield Message(Role.USER, tuple(moved))


def _split_results(message: Message, accepts: Accepts, names: dict[str, str]) -> tuple[Message, list[Part]]:
    kept: list[Part] = []
    moved: list[Part] = []
    for part in message.parts:
        media = [inner for inner in part.parts if _must_move(inner, accepts)] if isinstance(part, ToolResult) else []
        if not isinstance(part, ToolResult) or not media:
            kept.append(part)
            continue
        rest = tuple(inner for inner in part.parts if not _must_move(inner, accepts))
        call = f"{names[part.call_id]} (call {part.call_id})" if part.call_id in names else f"call {part.call_id}"
        note = Text(f"[{len(media)} attached below, in the next message]")
        kept.append(replace(part, parts=(*rest, note)))
        moved.extend((Text(f"[from the result of {call}:]"), *media))
    return Message(message.role, tuple(kept)), moved


def _must_move(part: Any, accepts: Accepts) -> bool:
    if isinstance(part, Image | ImageUrl):
        return not accepts.result_images
    return isinstance(part, File | FileUrl) and not accepts.result_files


# --- system messages in mid-conversation ------------------------------------------------------------


def _ordered(messages: list[Message], accepts: Accepts) -> list[Message]:
    match accepts.later_system:
        case "kept":
            return messages
        case "folded":
            return _folded(messages)
        case "wrapped":
            return _wrapped(messages)
        case _:
            assert_never(accepts.later_system)


def _leading(messages: list[Message]) -> int:
    return next((index for index, message in enumerate(messages) if message.role is not Role.SYSTEM), len(messages))


def _one_system(messages: list[Message]) -> list[Message]:
    parts = tuple(part for message in messages for part in message.parts)
    return [Message(Role.SYSTEM, parts)] if parts else []


def _folded(messages: list[Message]) -> list[Message]:
    system = [message for message in messages if message.role is Role.SYSTEM]
    return _one_system(system) + [message for message in messages if message.role is not Role.SYSTEM]


def _wrapped(messages: list[Message]) -> list[Message]:
    """Move later system messages into the following user's turn, else into the preceding one, else into a new one."""
    count = _leading(messages)
    ordered = _one_system(messages[:count])
    first, waiting = len(ordered), list[Part]()
    for message in messages[count:]:
        if message.role is Role.SYSTEM:
            waiting.extend(Text(f"{_SYSTEM_OPEN}{part.text}{_SYSTEM_CLOSE}") if isinstance(part, Text) else part
                           for part in message.parts)  # fmt: skip
            continue
        if waiting and message.role is Role.USER:
            ordered.append(Message(Role.USER, (*waiting, *message.parts)))
            waiting = []
            continue
        if waiting and message.role is not Role.TOOL:
            _append(waiting, ordered, first)
            waiting = []
        ordered.append(message)
    if waiting:
        _append(waiting, ordered, first)
    return ordered


def _append(waiting: list[Part], ordered: list[Message], first: int) -> None:
    """Add parts to the user's turn at the end, or append a new one, as no user's turn follows."""
    if len(ordered) > first and ordered[-1].role is Role.USER:
        ordered[-1] = Message(Role.USER, (*ordered[-1].parts, *waiting))
    else:
        ordered.append(Message(Role.USER, tuple(waiting)))


# --- ids and tools ----------------------------------------------------------------------------------


def _with_ids(message: Message, accepts: Accepts) -> Message:
    parts = tuple(_with_id(part, accepts) for part in message.parts)
    return message if parts == message.parts else Message(message.role, parts)


def _with_id(part: Part, accepts: Accepts) -> Part:
    if isinstance(part, ToolCall):
        return replace(part, id=fitted_id(part.id, accepts.call_ids))
    if isinstance(part, ToolResult):
        return replace(part, call_id=fitted_id(part.call_id, accepts.call_ids))
    return part


def _fitted_tool(tool: Tool, accepts: Accepts, dropped: Dropped) -> Tool:
    if not tool.cache or accepts.cache_marks:
        return tool
    dropped.add("tools.cache_control")
    return replace(tool, cache="")
