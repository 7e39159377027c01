"""Capabilities of well-known external models, for model lists: providers document them, but their APIs lack them.

The settings of a host's model take precedence. A name without a row means text generation, or embedding if it says so.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache

from msgspec import Struct

__all__ = ["KnownModel", "known_model"]

_TEXT = ("completion", "tools")
_SEES = (*_TEXT, "vision")
_ALL = (*_SEES, "thinking")
_THINKS = (*_TEXT, "thinking")


class KnownModel(Struct, frozen=True):
    """Capabilities by Ollama's names; the context and the maximum response length in tokens, None if they vary."""

    capabilities: tuple[str, ...]
    context: int | None = None
    output: int | None = None


_ROWS: tuple[tuple[str, KnownModel], ...] = (
    ("*embed*", KnownModel(("embedding",))),
    ("gpt-5*-chat*", KnownModel(_SEES, 128_000, 16_384)),
    ("gpt-5*", KnownModel(_ALL, 400_000, 128_000)),
    ("gpt-4.1*", KnownModel(_SEES, 1_047_576, 32_768)),
    ("gpt-4o*", KnownModel(_SEES, 128_000, 16_384)),
    ("gpt-4-turbo*", KnownModel(_SEES, 128_000, 4_096)),
    ("gpt-3.5-turbo*", KnownModel(_TEXT, 16_385, 4_096)),
    ("gpt-oss*", KnownModel(_THINKS, 131_072)),
    ("o1-mini*", KnownModel(("completion", "thinking"), 128_000, 65_536)),
    ("o[134]*", KnownModel(_ALL, 200_000, 100_000)),
    ("claude-3-haiku*", KnownModel(_SEES, 200_000, 4_096)),
    ("claude-3-5*", KnownModel(_SEES, 200_000, 8_192)),
    ("claude-opus-4-[01]*", KnownModel(_ALL, 200_000, 32_000)),
    ("claude-opus-4-20*", KnownModel(_ALL, 200_000, 32_000)),
    ("claude-*", KnownModel(_ALL, 200_000, 64_000)),
    ("gemini-2.0*", KnownModel(_SEES, 1_048_576, 8_192)),
    ("gemini-*", KnownModel(_ALL, 1_048_576, 65_536)),
    ("magistral*", KnownModel(_THINKS, 128_000)),
    ("pixtral*", KnownModel(_SEES, 128_000)),
    ("codestral*", KnownModel((*_TEXT, "insert"), 256_000)),
    ("mistral-medium*", KnownModel(_SEES, 128_000)),
    ("mistral-*", KnownModel(_TEXT, 128_000)),
    ("deepseek-reasoner*", KnownModel(_THINKS, 128_000, 65_536)),
    ("deepseek-chat*", KnownModel(_TEXT, 128_000, 8_192)),
    ("grok-4*", KnownModel(_ALL, 256_000)),
    ("grok-3-mini*", KnownModel(_THINKS, 131_072)),
    ("grok-*", KnownModel(_TEXT, 131_072)),
)
"""Known model families, not checked against current documentation: hints for lists that no request depends on. The
first matching row applies."""


@lru_cache(maxsize=1024)
def known_model(name: str) -> KnownModel | None:
    """Return the facts of a well-known model by its host's name, with or without `vendor/` and a date; else None."""
    short = name.lower().rpartition("/")[2].removeprefix("anthropic.")
    return next((known for pattern, known in _ROWS if fnmatchcase(short, pattern)), None)
