"""Patterns over the names of hosted models, with ranges of versions.

`gpt-{5.4..5.6}*` matches `gpt-5.4`, `gpt-5.5-mini` and `gpt-5.6-2026-09-01`, and not `gpt-5` or `gpt-5.7`;
`claude-opus-{4.7..}*` matches `claude-opus-4-7` and `claude-opus-5`, and not `claude-opus-4-20250514`, whose eight
digits are a date.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

__all__ = ["LONGEST_PATTERN", "is_version_pattern", "matches_any"]

LONGEST_PATTERN = 100
_MOST_STARS = 4
_BOUND = r"\d{1,3}(?:\.\d{1,3})?"
_RANGE = re.compile(rf"\{{({_BOUND})?\.\.({_BOUND})?\}}")
_VERSION = r"(\d{1,2}(?:[.-]\d{1,2})?)(?!\d)"
_ANY = fnmatch.translate("")[len("(?s:") :]  # the end of a translated pattern


def is_version_pattern(text: str) -> bool:
    """Return whether a text is a valid pattern with `*`, `?`, `[...]` and `{low..high}`; both bounds are optional."""
    plain = _RANGE.sub("", text)
    return 0 < len(text) <= LONGEST_PATTERN and text.count("*") <= _MOST_STARS and not set("{}") & set(plain)


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a host's name of a model matches any pattern; case is ignored.

    A pattern without a slash is compared with the part after the name's last slash: `gpt-{5..}` matches `openai/gpt-5`.
    """
    whole = name.lower()
    model = whole.rpartition("/")[2]
    return any(_matcher(pattern.lower())(whole if "/" in pattern else model) for pattern in patterns)


@lru_cache(maxsize=1024)  # 60 us
def _matcher(pattern: str) -> Callable[[str], bool]:
    pieces = _RANGE.split(pattern)  # text, low, high, text, low, high, ..., text
    ranges = [(_numbers(low), _numbers(high)) for low, high in zip(pieces[1::3], pieces[2::3], strict=True)]
    whole = re.compile(_VERSION.join(_translated(text) for text in pieces[::3]), re.DOTALL)

    def matches(name: str) -> bool:
        found = whole.fullmatch(name)
        return found is not None and all(
            _within(_numbers(version), low, high) for version, (low, high) in zip(found.groups(), ranges, strict=True)
        )

    return matches


def _translated(text: str) -> str:
    """Translate a shell pattern to a regular expression without `fnmatch`'s prefix and suffix, and without groups."""
    return "".join(
        ".*?" if piece == "*" else fnmatch.translate(piece).removeprefix("(?s:").removesuffix(_ANY)
        for piece in re.split(r"(\*)", text)
        if piece
    )


def _numbers(version: str | None) -> tuple[int, ...] | None:
    return None if version is None else tuple(int(number) for number in re.split(r"[.-]", version))


def _within(version: tuple[int, ...] | None, low: tuple[int, ...] | None, high: tuple[int, ...] | None) -> bool:
    """Compare only as many numbers as the bound has: 4.5 is within `..4`."""
    if version is None:
        return False
    padded = (*version, 0)
    return (low is None or padded >= (*low, 0)[: len(padded)]) and (high is None or padded[: len(high)] <= high)
