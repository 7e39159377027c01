"""Shell patterns over model names, for grants, `local_only` and rules.

A pattern is compared with canonical names, so the default registry and namespace may be omitted:
`registry.ollama.ai/library/secret*` and `library/secret*` match the same names, without a host or namespace.
"""

from __future__ import annotations

import fnmatch
import re
import string
from collections.abc import Callable
from functools import lru_cache

from ollama_router_core.api.model_names import (
    DEFAULT_HOST,
    DEFAULT_NAMESPACE,
    DEFAULT_TAG,
    LONGEST_NAME,
    CanonicalName,
    canonical_name,
)

__all__ = ["can_match", "matches_pattern"]

_WILDCARDS = frozenset("*?[")
_NO_LIMIT = 10_000  # slashes; more than a name has characters
_SET = re.compile(r"\[[!^]?\]?[^\]]*\]")
_ANY_CHARACTER = re.compile(r"[?]|" + _SET.pattern)


def matches_pattern(name: CanonicalName, pattern: str) -> bool:
    """Return whether a model's canonical name matches; a pattern without wildcards is a name.

    `*`, `?` and `[...]` are shell wildcards; case is ignored. A pattern without a tag means the tag `latest`, like a
    name, unless it ends in `*`.
    """
    return _matcher(pattern)(name)


def can_match(pattern: str) -> bool:
    """Return whether the pattern can match any name; tries names built from the pattern."""
    plain = pattern.lower()
    return any(_fits(plain.replace("*", filling), pattern) for filling in ("", "x", "x/x", "x:x"))


def _fits(text: str, pattern: str) -> bool:
    for found in reversed([*_ANY_CHARACTER.finditer(text)]):
        one = re.compile(fnmatch.translate(found[0])).match
        character = next(filter(one, string.ascii_lowercase + string.digits + "-_./:"), found[0])
        text = text[: found.start()] + character + text[found.end() :]
    shown = text.isprintable() and text.strip() == text and 0 < len(text) <= LONGEST_NAME
    return shown and matches_pattern(canonical_name(text), pattern)


@lru_cache(maxsize=4096)  # 55 us
def _matcher(pattern: str) -> Callable[[CanonicalName], bool]:
    if _WILDCARDS.isdisjoint(pattern):
        return canonical_name(pattern).__eq__
    text, slashes = _without_registry(pattern.lower())
    texts = [text]
    if ":" not in text.rpartition("/")[2]:
        texts.append(f"{text}:{DEFAULT_TAG}")  # the text without a tag matches other servers' ids
    match = re.compile("|".join(map(fnmatch.translate, texts))).match
    return lambda name: name.count("/") <= slashes and match(name) is not None


def _without_registry(pattern: str) -> tuple[str, int]:
    """Strip the default registry from a pattern; also return the maximum number of slashes in a matching name."""
    scheme, mark, rest = pattern.partition("://")
    text = rest if mark and _WILDCARDS.isdisjoint(scheme) else pattern
    if text.startswith((f"{DEFAULT_HOST}/{DEFAULT_NAMESPACE}/", f"{DEFAULT_NAMESPACE}/")):
        return text.removeprefix(f"{DEFAULT_HOST}/").removeprefix(f"{DEFAULT_NAMESPACE}/"), 0
    if text.startswith(f"{DEFAULT_HOST}/"):
        return text.removeprefix(f"{DEFAULT_HOST}/"), 1
    return text, _NO_LIMIT
