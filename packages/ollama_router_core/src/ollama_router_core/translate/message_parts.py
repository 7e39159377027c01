"""Parts of messages in forms shared by several dialects.

Parsing is lenient: it accepts a wrong declared type, base64 with line breaks, or a URL instead of an object. An
unreadable part becomes a note, so that the conversation can continue.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from ollama_router_core.translate.conversation import (
    Conversation,
    File,
    FileUrl,
    Image,
    ImageUrl,
    Part,
    Text,
    Thinking,
    ToolCall,
)
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.lenient_json import text_of

__all__ = [
    "call_names",
    "data_url",
    "file_of",
    "image_of",
    "joined_text",
    "joined_thinking",
    "left_out",
    "need_messages",
    "read_file",
    "read_image",
    "read_source",
    "result_parts",
]

# The first characters of base64 encode the file's signature.
_SIGNATURES = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("Qk", "image/bmp"),
    ("SUkqA", "image/tiff"),
    ("TU0AK", "image/tiff"),
)
_PDF_SIGNATURE = "JVBERi0"
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
_DATA_URL = re.compile(
    r"data:(?P<type>[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64})?(;[^;,]{1,64})*?(?P<base64>;base64)?,", re.IGNORECASE
)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_NOT_BASE64 = re.compile(r"[\r\n\t=]+")
_WEB = ("http://", "https://")


def _media_type(text: str) -> str:
    kind = text.partition(";")[0].strip().lower()
    return _ALIASES.get(kind, kind)


def _clean(data: str) -> str | None:
    """Return base64 in standard form; None if the text is not base64."""
    if not _BASE64.fullmatch(data):
        data = _NOT_BASE64.sub("", data).replace("-", "+").replace("_", "/")
        if not _BASE64.fullmatch(data):
            return None
    rest = len(data.rstrip("=")) % 4
    if rest == 1:
        return None
    return data if len(data) % 4 == 0 else data.rstrip("=") + "=" * (-len(data.rstrip("=")) % 4)


def _split_url(url: str) -> tuple[str, str] | None:
    """Return media type and base64 of a `data:` URL; None for any other."""
    found = _DATA_URL.match(url[:512])
    if found is None:
        return None
    data = url[found.end() :]
    if not found["base64"]:
        data = base64.b64encode(unquote_to_bytes(data)).decode("ascii")
    return _media_type(found["type"] or ""), data


def image_of(text: str, declared: str = "") -> Image | ImageUrl | None:
    """Return the image of a text: base64, a `data:` or an `http(s):` URL; None for any other text.

    The signature of the bytes, if known, overrides the declared type.
    """
    if text[:8].lower().startswith(_WEB):
        return ImageUrl(text)
    declared, data = _split_url(text) or (_media_type(declared), text)
    clean = _clean(data)
    if clean is None:
        return None
    kind = next((kind for start, kind in _SIGNATURES if clean.startswith(start)), declared)
    return Image(kind, clean)


def file_of(text: str, name: str = "", declared: str = "") -> File | FileUrl | Image | None:
    """Return the file of a text, as `image_of` does. A file with an image type becomes an image."""
    if text[:8].lower().startswith(_WEB):
        return FileUrl(text, name)
    kind, data = _split_url(text) or (_media_type(declared), text)
    clean = _clean(data)
    if clean is None:
        return None
    if clean.startswith(_PDF_SIGNATURE):
        kind = "application/pdf"
    if kind.startswith("image/"):
        found = image_of(clean, kind)
        return found if isinstance(found, Image) else None
    return File(kind or "application/octet-stream", clean, name)


def read_image(fields: JsonReader, key: str) -> Image | ImageUrl | Text:
    """Parse the image at a key: a text, or an object with `url`."""
    value = fields.raw(key)
    if isinstance(value, dict):
        inner = fields.need_child(key)
        if inner.raw("detail") not in {None, "auto"}:
            inner.drop("detail")
        value = inner.raw("url")
    image = image_of(value) if isinstance(value, str) else None
    return image or left_out(fields, key, "an image")


def read_source(fields: JsonReader) -> Image | ImageUrl | Text:
    """Parse an image in Anthropic's format, with a `source`, or in that of MCP's servers, without."""
    source = fields.child("source") or fields
    text = source.raw("data") or source.raw("url") or source.raw("image")
    declared = source.raw("media_type") or source.raw("mimeType")
    image = image_of(text, text_of(declared)) if isinstance(text, str) else None
    return image or left_out(fields, "source", "an image")


def read_file(fields: JsonReader, key: str, name: str, declared: str = "") -> File | FileUrl | Image | Text:
    """Parse the file at a key."""
    value = fields.raw(key)
    file = file_of(value, name, declared) if isinstance(value, str) else None
    return file or left_out(fields, key, f"the file {name!r}" if name else "a file")


def left_out(fields: JsonReader, key: str, what: str) -> Text:
    """Return a note instead of an unreadable part, and list the key as dropped."""
    fields.note(key)
    return Text(f"[{what} was left out: it could not be passed on to this model]")


def data_url(part: Image | File) -> str:
    """Return the image or file as a `data:` URL, which OpenAI accepts."""
    return f"data:{part.media_type};base64,{part.data}"


def result_parts(parts: Iterable[Part]) -> tuple[Text | Image | ImageUrl | File | FileUrl, ...]:
    """Return the parts that a tool result may have, without reasoning and calls."""
    return tuple(part for part in parts if isinstance(part, Text | Image | ImageUrl | File | FileUrl))


def joined_text(parts: Iterable[Part], separator: str) -> str:
    """Join all text. Use no separator for a model's text, which was one text before it was split."""
    return separator.join(part.text for part in parts if isinstance(part, Text) and part.text)


def joined_thinking(parts: Iterable[Part]) -> str:
    """Join all reasoning."""
    return "".join(part.text for part in parts if isinstance(part, Thinking))


def call_names(conversation: Conversation) -> dict[str, str]:
    """Return tool names by call id."""
    return {
        part.id: part.name for message in conversation.messages for part in message.parts if isinstance(part, ToolCall)
    }


def need_messages(conversation: Conversation) -> None:
    """Reject a conversation without messages, as OpenAI and Anthropic do.

    Raises:
        UntranslatableRequest: there is no message.
    """
    if not conversation.messages:
        raise UntranslatableRequest("there is nothing to answer: the request has no message and no prompt")
