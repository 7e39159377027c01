"""The spellings of a key in an echo: plain, JSON-escaped, percent-encoded, or encoded twice.

A backslash in a key is distinguished from an escape only if both arrive in one piece.
"""

from __future__ import annotations

import re
from functools import lru_cache

from msgspec import Struct

__all__ = ["EchoedSecret", "echoed"]

_LONGEST_UNIT = 9  # bytes of one character: `\\\\u002f`
_SHORT_ESCAPES = b'"\\/'


class EchoedSecret(Struct, frozen=True):
    """One key, matched in every spelling.

    Attributes:
        pattern: matches the whole key.
        units: match its characters in order.
        begin: matches where the key may begin, with few false positives.
    """

    pattern: re.Pattern[bytes]
    units: tuple[re.Pattern[bytes], ...]
    begin: re.Pattern[bytes]

    def held_back(self, data: bytes) -> int:
        """Return the number of trailing bytes that may begin the key."""
        start = max(0, len(data) - _LONGEST_UNIT * len(self.units))
        for found in self.begin.finditer(data, start):
            if self._is_prefix(data, found.start()):
                return len(data) - found.start()
        return 0

    def _is_prefix(self, data: bytes, offset: int) -> bool:
        """Whether all bytes from `offset` to the end are a prefix of the key."""
        for unit in self.units:
            if offset == len(data) or (len(data) - offset < _LONGEST_UNIT and data[offset] in b"\\%"):
                return True  # an incomplete escape
            found = unit.match(data, offset)
            if found is None:
                return False
            offset = found.end()
        return False


@lru_cache(maxsize=1024)  # 1 ms
def echoed(secret: bytes) -> EchoedSecret:
    """Build the patterns of all spellings of a key."""
    units = [_spellings(byte) for byte in secret]
    second = units[1] if len(units) > 1 else b""
    begin = b"(?:%b)(?:%b|(?=.{0,%d}\\Z))|[\\\\%%](?=.{0,%d}\\Z)" % (units[0], second, _LONGEST_UNIT, _LONGEST_UNIT)
    return EchoedSecret(
        re.compile(b"".join(b"(?:%b)" % unit for unit in units)),
        tuple(re.compile(unit) for unit in units),
        re.compile(begin, re.DOTALL),
    )


def _spellings(byte: int) -> bytes:
    digits = re.sub(rb"[a-f]", lambda digit: b"[%b%b]" % (digit[0].upper(), digit[0]), b"%02x" % byte)
    ways = [re.escape(bytes([byte])), rb"\\{1,4}u00" + digits, rb"%(?:25){0,2}" + digits]
    if byte in _SHORT_ESCAPES:
        ways.append(rb"\\{1,4}" + re.escape(bytes([byte])))
    return b"|".join(reversed(ways))
