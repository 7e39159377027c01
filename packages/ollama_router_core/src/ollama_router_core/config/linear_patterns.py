"""Operators' regular expressions, matched against model names from users in linear time.

The standard library's engine backtracks exponentially on nested quantifiers: `(a+)+$` against 29 characters took 18 s.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, cast

__all__ = ["InvalidPattern", "LinearPattern", "linear_pattern"]

_MEMORY = 1 << 20


class InvalidPattern(ValueError):
    """A regular expression that RE2 cannot compile within 1 MiB; the text gives the reason."""


class LinearPattern(Protocol):
    """A compiled pattern."""

    def search(self, text: str, /) -> object | None:
        """Return a match anywhere in the text, or None."""


@lru_cache(maxsize=256)
def linear_pattern(text: str) -> LinearPattern:
    """Compile a case-insensitive pattern.

    Raises:
        InvalidPattern: RE2 cannot compile it; lookarounds and back-references are not supported.
    """
    import re2  # noqa: PLC0415 - few configs have patterns, and it takes 8 ms

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return cast("LinearPattern", re2.compile(text, options))
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0]
        raise InvalidPattern(reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(error)) from None
