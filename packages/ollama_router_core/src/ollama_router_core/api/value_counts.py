"""Limits of the number of values in a JSON text, checked before decoding.

A decoder blocks all threads until it is done: 0.65 s for a million members. Counting takes a fraction of that, and lets
other threads run between slices.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["MOST_VALUES", "outside_strings", "too_many_values"]

_FEW_BYTES = 256 * 1024
"""Size in bytes up to which decoding is fast, whatever the number of values."""
_MOST_STRINGS = 100_000
MOST_VALUES = 300_000
"""Maximum number of commas and opening brackets; a prompt as Ollama's `context` has up to 262,144 numbers."""
_SEPARATORS = (b",", b"[", b"{")
_SLICE = 1024 * 1024


def too_many_values(body: bytes, *, most: int = MOST_VALUES) -> str | None:
    """Return what exceeds its limit, strings (including keys) or values; None if nothing does.

    The contents of strings do not count, so a long text is not rejected.
    """
    if len(body) <= _FEW_BYTES:
        return None
    quotes = _count(body, b'"')
    if quotes > 2 * _MOST_STRINGS and quotes - _count(body, rb"\"") > 2 * _MOST_STRINGS:
        return f"more than {_MOST_STRINGS:,} strings"
    if _count(body, *_SEPARATORS) > most and sum(_count(part, *_SEPARATORS) for part in outside_strings(body)) > most:
        return f"more than {most:,} values"
    return None


def _count(text: bytes, *words: bytes) -> int:
    """Count the words slice by slice; the few words across a slice boundary are missed."""
    starts = range(0, len(text), _SLICE)
    return sum(text.count(word, start, start + _SLICE) for start in starts for word in words)


def outside_strings(body: bytes) -> Iterator[bytes]:
    """Yield the text outside strings of a JSON text, slice by slice."""
    inside, carried = 0, b""
    for start in range(0, len(body), _SLICE):
        piece = carried + body[start : start + _SLICE]
        carried = b"\\" * ((len(piece) - len(piece.rstrip(b"\\"))) % 2)
        parts = piece[: len(piece) - len(carried)].replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        yield b"".join(parts[inside::2])
        inside = (inside + len(parts) - 1) % 2
