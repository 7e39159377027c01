"""Client metadata in prompts that is not meant for the model and changes with every request.

A server with a cached prefix reads only the rest of a prompt, so one changed number at its start costs the whole
prompt. Only the patterns listed here are removed; they have no meaning for a model.
"""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest

__all__ = ["NOISE", "Noise", "without_noise"]


class Noise(Struct, frozen=True):
    """One kind of noise: `mark` occurs in every such text, `pattern` matches the part to remove."""

    name: str
    mark: bytes
    pattern: re.Pattern[str]


NOISE = (
    Noise(
        "claude-code-billing",  # Claude Code from 2.1.36 on, the first text for the system
        b"x-anthropic-billing-header",
        re.compile(r"^[ \t]*x-anthropic-billing-header:[^\n]*(?:\n|\Z)", re.MULTILINE | re.IGNORECASE),
    ),
    Noise(
        "claude-code-hash",  # the part of it that changes, wherever else it stands
        b"cch=",
        re.compile(r"(?<![\w-])cch=[0-9A-Za-z]{3,64}(?:;[ \t]?|(?=\s)|\Z)"),
    ),
    Noise(
        "cline-clock",  # Cline and Roo Code, in `<environment_details>` of each turn
        b"# Current Time",
        re.compile(r"^# Current Time\n[^\n]*(?:\n|\Z)\n?", re.MULTILINE),
    ),
)
_TEXTS = ("system", "instructions", "messages", "input", "prompt")


def without_noise(request: ParsedRequest) -> tuple[ParsedRequest, tuple[str, ...]]:
    """Return the request without noise, and the names of the kinds removed."""
    document = request.document
    if document is None:
        return request, ()
    changes: dict[str, str] = {}
    names: set[str] = set()
    for key in _TEXTS:
        kinds = [noise for noise in NOISE if key in document.keys and document.mentions(key, (noise.mark.lower(),))]
        text = _cleaned_json(document.get(key), kinds, names) if kinds else None
        if text is not None:
            changes[key] = text
    if not changes:
        return request, ()
    return request.edited(changes), tuple(noise.name for noise in NOISE if noise.name in names)


def _cleaned_json(value: Any, kinds: list[Noise], names: set[str]) -> str | None:
    """Return the JSON of a value without noise; None if there is no noise, or the rest is not encodable."""
    found: set[str] = set()
    cleaned = _cleaned(value, kinds, found)
    try:
        text = json.dumps(cleaned, allow_nan=False) if found else None
    except ValueError:
        return None
    names |= found
    return text


def _cleaned(value: Any, kinds: list[Noise], found: set[str]) -> Any:
    """Remove noise from a text, or from messages and their parts; drop parts that contain only noise."""
    if isinstance(value, str):
        for noise in kinds:
            value, count = noise.pattern.subn("", value)
            if count:
                found.add(noise.name)
        return value
    if isinstance(value, list):
        return [part for old in value if not _is_gone(old, part := _cleaned(old, kinds, found))]
    if isinstance(value, dict) and value.get("role") != "assistant":
        keys = ("text", "content")
        return {key: _cleaned(inner, kinds, found) if key in keys else inner for key, inner in value.items()}
    return value


def _is_gone(old: Any, new: Any) -> bool:
    return isinstance(old, dict) and "text" in old and old["text"] != new["text"] and not str(new["text"]).strip()
