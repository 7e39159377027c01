"""The output of a simulated model: deterministic tokens for a request.

Contains the token count of a prompt, the pieces of a response (token i is the word `wordi`), thinking, JSON, tool
calls and embeddings.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Piece", "Script", "count_tokens", "embedding", "script_for"]

_THINKING_TOKENS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One token of a response, or its tool calls."""

    kind: Literal["thinking", "content", "tools"]
    text: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A planned response: token counts and finish reason."""

    prompt_tokens: int
    answer_tokens: int
    done_reason: str
    thinking_tokens: int = 0
    fixed_text: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()

    def pieces(self) -> Iterator[Piece]:
        """Yield the `answer_tokens` pieces in order."""
        for index in range(self.thinking_tokens):
            yield Piece(kind="thinking", text=_word("thought", index))
        if self.tool_calls:
            yield Piece(kind="tools", tool_calls=self.tool_calls)
            return
        spoken = self.answer_tokens - self.thinking_tokens
        fixed = _split(self.fixed_text, spoken) if self.fixed_text else None
        for index in range(spoken):
            yield Piece(kind="content", text=fixed[index] if fixed else _word("word", index))


def script_for(
    *,
    prompt: str,
    last_user_text: str,
    length: int,
    num_predict: int | None,
    thinks: bool,
    tools: Sequence[Any],
    wanted_format: Any,
) -> Script:
    """Build the script of the response to a prompt.

    `length` is the default number of tokens; `num_predict` limits it (negative: no limit). A tool is called if the last
    user message contains its name or the word `tool`.
    """
    calls = _tool_calls(tools, last_user_text)
    thinking = min(_THINKING_TOKENS, length) if thinks else 0
    total = thinking + (_call_tokens(calls) if calls else length)
    limited = num_predict is not None and 0 <= num_predict < total and not calls
    answer = num_predict if limited and num_predict is not None else total
    text = "" if calls else _formatted(wanted_format, max(0, answer - thinking))
    return Script(
        prompt_tokens=count_tokens(prompt),
        answer_tokens=answer,
        done_reason="length" if limited else "stop",
        thinking_tokens=min(thinking, answer),
        fixed_text=text,
        tool_calls=calls,
    )


def count_tokens(text: str) -> int:
    """Return the tokens of a prompt: its words, at least one."""
    return max(1, len(text.split()))


def embedding(text: str, dimensions: int) -> list[float]:
    """Compute a unit vector that depends only on the text."""
    source = random.Random(zlib.crc32(text.encode("utf-8", errors="replace")))
    raw = [source.uniform(-1.0, 1.0) for _ in range(dimensions)]
    norm = math.sqrt(sum(one * one for one in raw)) or 1.0
    return [round(one / norm, 8) for one in raw]


def _word(stem: str, index: int) -> str:
    return f" {stem}{index}" if index else f"{stem}0"


def _split(text: str, parts: int) -> list[str]:
    """Split `text` into exactly `parts` pieces."""
    edges = [round(index * len(text) / max(parts, 1)) for index in range(parts + 1)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def _formatted(wanted: Any, tokens: int) -> str:
    if wanted == "json":
        words = "".join(_word("word", index) for index in range(tokens))
        return json.dumps({"answer": words})
    return json.dumps(_instance(wanted)) if isinstance(wanted, Mapping) else ""


def _instance(schema: Any) -> Any:
    """Return the simplest value that a JSON schema allows."""
    if not isinstance(schema, Mapping):
        return "value"
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = schema.get("type", "string")
    if kind == "object":
        return {key: _instance(one) for key, one in _mapping(schema.get("properties")).items()}
    simple: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "null": None}
    if kind == "array":
        return [_instance(schema.get("items"))]
    return simple.get(kind, "value") if isinstance(kind, str) else "value"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _tool_calls(tools: Sequence[Any], text: str) -> tuple[dict[str, Any], ...]:
    functions = [
        one["function"] for one in tools if isinstance(one, Mapping) and isinstance(one.get("function"), Mapping)
    ]
    requested = [one for one in functions if str(one.get("name", "\0")) in text]
    if not requested and functions and "tool" in text.lower():
        requested = functions[:1]
    return tuple(_call(index, one) for index, one in enumerate(requested))


def _call(index: int, function: Mapping[str, Any]) -> dict[str, Any]:
    name = str(function.get("name", ""))
    arguments = _instance({**_mapping(function.get("parameters")), "type": "object"})
    return {
        "id": f"call_{zlib.crc32(name.encode()):08x}",
        "function": {"index": index, "name": name, "arguments": arguments},
    }


def _call_tokens(calls: Sequence[Mapping[str, Any]]) -> int:
    return sum(count_tokens(json.dumps(one["function"])) for one in calls)
