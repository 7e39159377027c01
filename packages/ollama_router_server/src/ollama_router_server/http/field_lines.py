"""Encoding of header fields, for both sides of the router."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["encode_fields"]


def encode_fields(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Encode fields, each with CR LF.

    Raises:
        ValueError: a field contains a line end or a NUL, and could be parsed as several.
    """
    encoded, ends = b"".join([b"%b: %b\r\n" % field for field in fields]), len(fields)
    if encoded.count(b"\n") != ends or encoded.count(b"\r") != ends or b"\0" in encoded:
        raise ValueError("a header field holds a line end or a NUL")
    return encoded
