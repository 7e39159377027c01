"""Parts of messages, in the forms that more than one dialect shares."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ollama_router_core.translate.conversation import (
    Conversation,
    File,
    Image,
    ImageUrl,
    Part,
    Text,
    Thinking,
    ToolCall,
)
from ollama_router_core.translate.errors import UntranslatableRequest

__all__ = [
    "anthropic_id",
    "call_names",
    "data_url",
    "file_of_url",
    "image_of_base64",
    "image_of_url",
    "joined_text",
    "joined_thinking",
    "need_messages",
    "result_parts",
]

# The first characters of base64 are the first bytes of the file: its signature.
_SIGNATURES = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
)
_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]{1,32})?(;[^;,]{1,64})*;base64,", re.IGNORECASE)
_FILE_URL = re.compile(r"data:([a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64})(?:;[^;,]{1,64})*;base64,", re.IGNORECASE)
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+")


def image_of_base64(data: str, where: str) -> Image:
    """Return an image, its type told by its first bytes.

    Raises:
        UntranslatableRequest: it is not PNG, JPEG, GIF or WebP: the other dialects want to be told the type.
    """
    for start, media_type in _SIGNATURES:
        if data.startswith(start):
            return Image(media_type, data)
    raise UntranslatableRequest(f"{where} is not the base64 of a PNG, JPEG, GIF or WebP image")


def image_of_url(url: str, where: str) -> Image | ImageUrl:
    """Return the image of a `data:` or `http(s):` address.

    Raises:
        UntranslatableRequest: another kind of address, or data that is no image in base64.
    """
    if url[:8].lower().startswith(("http://", "https://")):
        return ImageUrl(url)
    found = _DATA_URL.match(url[:512])
    if found is None:
        raise UntranslatableRequest(f"{where} must be an http(s) address or data:image/...;base64,...")
    data = url[found.end() :]
    return Image(found[1].lower(), data) if found[1] else image_of_base64(data, where)


def file_of_url(url: str, name: str, path: str) -> File:
    """Return the file of a `data:` address.

    Raises:
        UntranslatableRequest: another kind of address, no media type, or not in base64.
    """
    found = _FILE_URL.match(url[:512])
    if found is None:
        raise UntranslatableRequest(f"{path} must be data:<media type>;base64,...")
    return File(found[1].lower(), url[found.end() :], name)


def data_url(part: Image | File) -> str:
    """Return the image or file as a `data:` address, which OpenAI takes."""
    return f"data:{part.media_type};base64,{part.data}"


def result_parts(parts: tuple[Part, ...], path: str) -> tuple[Text | Image | ImageUrl, ...]:
    """Return the parts of a tool's result.

    Raises:
        UntranslatableRequest: one of them is neither text nor image.
    """
    kept = tuple(part for part in parts if isinstance(part, Text | Image | ImageUrl))
    if len(kept) != len(parts):
        raise UntranslatableRequest(f"{path}: a tool's result may hold text and images only")
    return kept


def joined_text(parts: Iterable[Part], separator: str) -> str:
    """Join all text. Join what a model said without a separator: it was one text before it was cut."""
    return separator.join(part.text for part in parts if isinstance(part, Text) and part.text)


def joined_thinking(parts: Iterable[Part]) -> str:
    """Join all thinking."""
    return "".join(part.text for part in parts if isinstance(part, Thinking))


def call_names(conversation: Conversation) -> dict[str, str]:
    """Return the tool's name by the id of each call."""
    return {
        part.id: part.name for message in conversation.messages for part in message.parts if isinstance(part, ToolCall)
    }


def anthropic_id(text: str) -> str:
    """Return a call's id in Anthropic's alphabet (letters, digits, `-`, `_`); equal ids stay equal."""
    if _PLAIN_ID.fullmatch(text):
        return text
    return "_" + "".join(char if _PLAIN_ID.fullmatch(char) and char != "_" else f"_{ord(char):x}_" for char in text)


def need_messages(conversation: Conversation) -> None:
    """Refuse a conversation without messages, as OpenAI and Anthropic do.

    Raises:
        UntranslatableRequest: there is no message.
    """
    if not conversation.messages:
        raise UntranslatableRequest("there is nothing to answer: the request has no message and no prompt")
