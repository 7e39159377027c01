"""Locations of token counts in a dialect's responses, for the usage reader in `responses`."""

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
]

MAX_COUNT: Final = 1_000_000_000
"""Maximum valid token count: no context is longer, and the sum of a billion responses fits into 64 bits."""

MAX_DURATION: Final = 10**15
"""Maximum valid duration in nanoseconds: eleven days."""


class Usage(Struct, frozen=True, kw_only=True):
    """A server's report about one response; None for unreported values. Durations are nanoseconds.

    `prompt_tokens` is the whole prompt; `cached_tokens` of it were read from a cache, `cache_write_tokens` written to
    one. `reasoning_tokens` are a part of `completion_tokens`.

    `finished` is True after the dialect's end of a response, `failed` after an error line.
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
    """How to find token counts in a dialect's responses.

    Attributes:
        words: a stream's line without any of them has no counts. A search for words costs a tenth of one for patterns.
        marker: must match the end of a line that is too long to buffer for its numbers to count.
        numbers: patterns by the names of `Usage`, for a text too long to parse.
        payload: returns the JSON of a stream's line, None for a line without.
        pieces: words, one of which is in every line with a piece of the response, and in no other line.
        read: parses a JSON text. Raises `msgspec.MsgspecError`, `ValueError` or
            `RecursionError` for invalid JSON.
        ends: prefixes of lines that mark a complete response.
        token_ends: suffixes of lines with only a token.
        counts_end: whether the numbers are only in the last line of a response.
        cached_apart: whether the prompt's tokens exclude the cached ones.
        token_lines: the suffixes of whole lines with only a token.
    """

    words: tuple[bytes, ...]
    marker: re.Pattern[bytes]
    numbers: Mapping[str, re.Pattern[bytes]]
    pieces: tuple[bytes, ...]
    payload: Callable[[bytes], bytes | None]
    read: Callable[[bytes], Usage]
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


def count_of(value: Any) -> int | None:
    """Return a count of tokens; None for an invalid or implausible value."""
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def duration_of(value: Any) -> int | None:
    """Return a duration in nanoseconds; None for an invalid or implausible value."""
    return value if type(value) is int and 0 <= value <= MAX_DURATION else None
