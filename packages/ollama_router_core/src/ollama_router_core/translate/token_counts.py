"""Where an answer that passes by says how many tokens it took: what every dialect tells the reader in `responses`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct

__all__ = [
    "FINISHED",
    "MAX_COUNT",
    "MAX_DURATION",
    "NO_USAGE",
    "TokenCountFormat",
    "Usage",
    "count_of",
    "duration_of",
    "number_patterns",
    "usage_member",
]

MAX_COUNT: Final = 1_000_000_000
"""Tokens. A larger count is not believed: no context is as long, and sums of a billion answers fit into 64 bits."""

MAX_DURATION: Final = 10**15
"""Nanoseconds, eleven days. A longer time is not believed."""


class Usage(Struct, frozen=True, kw_only=True):
    """What a server said about one answer; None where it said nothing. Durations are nanoseconds.

    `prompt_tokens` is the whole prompt; `cached_tokens` of it came out of a cache and `cache_write_tokens` went into
    one. `reasoning_tokens` are a part of `completion_tokens`.

    `finished` is True once the dialect's own end of an answer has passed, `failed` once an error line has.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_duration: int | None = None
    eval_duration: int | None = None
    finished: bool = False
    failed: bool = False

    @property
    def counts(self) -> bool:
        """Whether any number was found."""
        return self.prompt_tokens is not None or self.completion_tokens is not None or self._times

    @property
    def _times(self) -> bool:
        return self.load_duration is not None or self.prompt_eval_duration is not None or self.eval_duration is not None


NO_USAGE = Usage()
FINISHED = Usage(finished=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCountFormat:
    """How to find token counts in a dialect's answers.

    Attributes:
        words: a line of a stream without any of them tells nothing. Looking for words costs a tenth of looking for
            patterns.
        marker: what must stand in the end of a line too long to be held for its numbers to count.
        numbers: the numbers by the names of `Usage`, for a text too long to be parsed.
        payload: the JSON of a line of a stream, None for a line that has none.
        pieces: words of which a line that is a piece of the answer has one, and no other line has any.
        read: parses a JSON text; True says that it is a whole answer. Raises `msgspec.MsgspecError`, `ValueError` or
            `RecursionError` for what is no JSON.
        ends: how a line begins that tells by itself that the answer is complete.
        token_ends: what a line ends in that is a token and nothing else.
        counts_end: whether the numbers stand only in the last line of an answer.
        cached_apart: whether the prompt's tokens are told without those of the cache.
        token_lines: the ends of whole lines that are tokens.
    """

    words: tuple[bytes, ...]
    marker: re.Pattern[bytes]
    numbers: Mapping[str, re.Pattern[bytes]]
    pieces: tuple[bytes, ...]
    payload: Callable[[bytes], bytes | None]
    read: Callable[[bytes, bool], Usage]
    ends: tuple[bytes, ...] = ()
    token_ends: tuple[bytes, ...] = ()
    counts_end: bool = False
    cached_apart: bool = False
    token_lines: tuple[bytes, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_lines", tuple(end + b"\n" for end in self.token_ends))


def number_patterns(keys: Mapping[str, str]) -> Mapping[str, re.Pattern[bytes]]:
    """Compile `TokenCountFormat.numbers`; `keys` are the dialect's keys as regular expressions."""
    return {name: re.compile(rb'"%s"\s*:\s*(\d{1,18})(?=\s*[,}])' % key.encode()) for name, key in keys.items()}


def usage_member(usage: Any) -> Mapping[str, Any]:
    """Return the counts, empty for what is none."""
    return usage if isinstance(usage, dict) else {}


def count_of(value: Any) -> int | None:
    """Return a count of tokens, None for anything else, and for what no answer can have taken."""
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def duration_of(value: Any) -> int | None:
    """Return a time in nanoseconds, None for anything else, and for what no answer can have taken."""
    return value if type(value) is int and 0 <= value <= MAX_DURATION else None
