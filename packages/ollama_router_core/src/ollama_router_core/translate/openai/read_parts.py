"""Parsing of content parts as OpenAI's clients send them, including parts of other dialects.

Clients mix the dialects' parts; an unknown part becomes a note, and is listed as dropped.
"""

from __future__ import annotations

from msgspec.structs import replace

from ollama_router_core.translate.conversation import Part, Text, Thinking
from ollama_router_core.translate.function_tools import read_cache
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.message_parts import left_out, read_file, read_image, read_source
from ollama_router_core.translate.openai.reasoning import content_parts

__all__ = ["read_content"]

_AUDIO = {"wav": "audio/wav", "mp3": "audio/mpeg"}


def read_content(fields: JsonReader, key: str) -> tuple[Part, ...]:
    """Parse a content: a text, a part, a list of either, or an object from a tool.

    Raises:
        UntranslatableRequest: a value has the wrong type.
    """
    value = fields.raw(key)
    if value is None:
        return ()
    if isinstance(value, str):
        return (Text(value),) if value else ()
    if isinstance(value, dict) and "type" not in value:
        return (Text(encode(value).decode("utf-8")),)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(Text(item) for item in value if item)
    parts = [fields.need_child(key)] if isinstance(value, dict) else fields.children(key)
    return tuple(_read_part(part) for part in parts)


def _read_part(fields: JsonReader) -> Part:
    part = _part(fields)
    fields.close()
    return part


def _part(fields: JsonReader) -> Part:
    part: Part
    match fields.text("type"):
        case "text" | "input_text" | "output_text" | "summary_text":
            for key in ("annotations", "logprobs"):  # members of earlier replies, sent back unchanged
                fields.raw(key)
            part = Text(fields.text("text") or "", read_cache(fields))
        case "refusal":
            part = Text(fields.text("refusal") or "")
        case "image_url" | "input_image":
            part = _read_image(fields)
        case "image":
            part = read_source(fields)
        case "file" | "input_file":
            part = _read_file(fields)
        case "input_audio":
            audio = fields.child("input_audio") or fields
            part = read_file(audio, "data", "", _AUDIO.get(audio.text("format") or "", "audio/unknown"))
        case "thinking" | "reasoning":
            part = _read_thoughts(fields)
        case kind:
            text = fields.raw("text")
            part = Text(text) if isinstance(text, str) else left_out(fields, kind or "type", "a part")
    return part


def _read_thoughts(fields: JsonReader) -> Thinking:
    for key in ("thinking", "reasoning", "text", "signature", "closed"):
        fields.raw(key)
    return Thinking("".join(part.text for part in content_parts([fields.values])))


def _read_image(fields: JsonReader) -> Part:
    if fields.raw("detail") not in {None, "auto"}:
        fields.drop("detail")
    cache = read_cache(fields)
    if fields.raw("file_id"):
        return left_out(fields, "file_id", "an image stored with another provider")
    image = read_image(fields, "image_url")
    return replace(image, cache=cache) if cache else image


def _read_file(fields: JsonReader) -> Part:
    file = fields.child("file") or fields
    name = file.text("filename") or ""
    for key in ("file_data", "file_url"):
        if file.raw(key):
            return read_file(file, key, name)
    return left_out(file, "file_id", f"the file {name!r}" if name else "a file stored with another provider")
