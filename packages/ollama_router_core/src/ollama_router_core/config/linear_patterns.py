"""Regular expressions of operators, which meet model names that users choose: matched in time linear in the name.

The standard library's engine tries every way to split a name between nested quantifiers: `(a+)+$` against 29 characters
took 18 s.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, cast

__all__ = ["InvalidPattern", "LinearPattern", "linear_pattern"]

_MEMORY = 1 << 20


class InvalidPattern(ValueError):
    """No regular expression that RE2 can compile, within 1 MiB; the text says why."""


class LinearPattern(Protocol):
    """A compiled pattern."""

    def search(self, text: str, /) -> object | None:
        """Return a match anywhere in the text, or None."""


@lru_cache(maxsize=256)
def linear_pattern(text: str) -> LinearPattern:
    """Compile a pattern that disregards case.

    Raises:
        InvalidPattern: RE2 cannot match it; lookarounds and back-references are among that.
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
