"""The size of a request's prompt: text, tools and images.

There is no tokenizer: characters are counted by kind, and `fleet.prompt_prices` learns the tokens per character of each
kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any, Final

from msgspec import Struct

from ollama_router_core.api.strict_json import JsonObject

__all__ = [
    "NO_PROMPT",
    "USUAL_PRICES",
    "PriceRow",
    "PromptSize",
    "size_of_prompt",
    "size_of_text",
    "sum_of_prices",
    "usual_tokens",
]

_TEXTS = frozenset({"messages", "prompt", "context", "system", "input", "instructions", "suffix", "query", "documents"})
_TOOLS = frozenset({"tools", "functions"})
_UNREAD = frozenset(
    {"role", "type", "id", "tool_use_id", "tool_call_id", "call_id", "cache_control", "signature", "media_type"}
)
"""Members of a message that produce no tokens, or a constant number."""
_MEDIA = frozenset({"data", "file_data", "image_url", "url", "file_id"})
_OBJECTS = frozenset({"arguments", "input"})
"""Members whose object a template renders as JSON."""
_LETTER, _DIGIT, _MARK, _SPACE, _LINE, _FOREIGN = b"adpsnf"
_PRICED = (_LETTER, _DIGIT, _MARK, _LINE)  # of ASCII
_COUNTED, _SAMPLES = 16_384, 64
"""Maximum number of characters counted, and the number of samples of a longer text."""


def _kinds() -> bytes:
    table = bytearray(bytes((_FOREIGN,)) * 256)
    for code in range(128):
        char = chr(code)
        kind = _LETTER if char.isalpha() else _DIGIT if char.isdigit() else _SPACE if char in " \t\r" else _MARK
        table[code] = _LINE if char == "\n" else kind
    return bytes(table)


_KINDS: Final = _kinds()


class PromptSize(Struct, frozen=True, gc=False):
    """The content of a prompt by kind.

    Attributes:
        messages: number of turns, each of which a template wraps.
        letters: number of ASCII letters.
        digits: number of ASCII digits.
        marks: number of other ASCII characters, without blanks and line ends.
        lines: number of line ends.
        foreign: number of characters beyond ASCII.
        heavy: UTF-8 bytes of these beyond two each: one for a Chinese character, none for a Russian one.
        tools: bytes of the JSON that describes tools.
        images: number of images, sounds and files other than text.
        tokens: number of tokens given as numbers.
    """

    messages: int = 0
    letters: int = 0
    digits: int = 0
    marks: int = 0
    lines: int = 0
    foreign: int = 0
    heavy: int = 0
    tools: int = 0
    images: int = 0
    tokens: int = 0

    @property
    def row(self) -> PriceRow:
        """The amounts in the order of `USUAL_PRICES`."""
        return (
            1.0,
            self.messages,
            self.letters,
            self.digits,
            self.marks,
            self.lines,
            self.foreign,
            self.heavy,
            self.tools,
            self.images,
        )


NO_PROMPT: Final = PromptSize()
PriceRow = Sequence[float]
USUAL_PRICES: Final = (6.0, 6.0, 0.25, 0.8, 0.6, 0.8, 0.3, 0.27, 0.28, 300.0)
"""Tokens per prompt, message, letter, digit, mark, line end, foreign character, heavy byte, byte of tools and image:
approximate values for tokenizers from 2024 on."""


def sum_of_prices(prices: PriceRow, row: PriceRow) -> float:
    """Return the sum of amounts times prices."""
    total: float = sum(map(mul, prices, row))
    return total


def usual_tokens(size: PromptSize) -> int:
    """Estimate the tokens of a prompt for a model without learned prices."""
    return max(1, round(sum_of_prices(USUAL_PRICES, size.row)) + size.tokens)


def size_of_text(text: str, *, messages: int = 1, tools: int = 0, images: int = 0, tokens: int = 0) -> PromptSize:
    """Count a text's characters by kind; a long text is extrapolated from evenly spread samples."""
    whole = len(text)
    if whole > _COUNTED:
        text = _sampled(text)
    data = text.encode("utf-8", "surrogatepass")
    kinds = data.translate(_KINDS)
    counts = [kinds.count(kind) for kind in _PRICED]
    counts += _foreign_and_heavy(kinds, len(text))
    if whole > _COUNTED:
        counts = [round(count * whole / _COUNTED) for count in counts]
    letters, digits, marks, lines, foreign, heavy = counts
    return PromptSize(messages, letters, digits, marks, lines, foreign, heavy, tools, images, tokens)


def _foreign_and_heavy(kinds: bytes, characters: int) -> tuple[int, int]:
    extra = len(kinds) - characters
    if not extra:
        return 0, 0
    beyond = kinds.count(_FOREIGN)
    return beyond - extra, 2 * extra - beyond


def _sampled(text: str) -> str:
    step = len(text) / _SAMPLES
    length = _COUNTED // _SAMPLES
    return "".join([text[(start := int(index * step)) : start + length] for index in range(_SAMPLES)])


def size_of_prompt(document: JsonObject) -> PromptSize:
    """Count the prompt in a request's body, in any dialect.

    Dialects differ in the members with text, but hardly in those without, so every text except in the latter counts.
    """
    found = _Reading()
    texts = {key: document.get(key) for key in document.keys & _TEXTS}
    for value in texts.values():
        found.read(value)
    if "images" in document.keys:
        found.read({"images": document.get("images")})
    return size_of_text(
        "\n".join(found.texts),
        messages=_turns(texts),
        tools=sum([document.length_of(key) for key in document.keys & _TOOLS if document.truthy(key)]),
        images=found.images,
        tokens=found.tokens,
    )


def _turns(texts: Mapping[str, Any]) -> int:
    """Count messages, including a separate system prompt."""
    apart = bool(texts.get("system")) + bool(texts.get("instructions"))
    for key in ("messages", "input"):
        if key in texts:
            turns = texts[key]
            return apart + (len(turns) if isinstance(turns, list) else 1)
    return apart + 1


class _Reading:
    """The content collected from one request."""

    __slots__ = ("images", "texts", "tokens")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.images = 0
        self.tokens = 0

    def read(self, value: Any) -> None:
        """Collect the content of a value and all nested values, in any order."""
        left = [value]
        while left:
            match left.pop():
                case str() as text:
                    self.texts.append(text)
                case list() as values if values and type(values[0]) is int:
                    self.tokens += len(values)
                case list() as values:
                    left += values
                case dict() as members:
                    self._read_members(members, left)

    def _read_members(self, members: Mapping[str, Any], left: list[Any]) -> None:
        is_text = members.get("type") == "text"
        for key, value in members.items():
            if key in _UNREAD and isinstance(value, str):
                continue
            if key == "images" and isinstance(value, list):
                self.images += len(value)
            elif key in _MEDIA and isinstance(value, str) and not is_text:
                self.images += 1
            elif key in _OBJECTS and isinstance(value, dict):
                self.texts.append(json.dumps(value, ensure_ascii=False))
            else:
                left.append(value)
