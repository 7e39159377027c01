"""Checks on a request head that llhttp does not make, or makes too late.

In strict mode, llhttp rejects invalid characters, bare CR or LF, folded lines, and repeated or malformed lengths.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from ollama_router_server.http.protocol_limits import ProtocolLimits

__all__ = ["Refusal", "check_fields", "check_method", "check_partial", "check_target", "too_large", "without_upgrade"]

Fields = list[tuple[bytes, bytes]]

_ONCE: Final = (
    b"host",
    b"authorization",
    b"x-api-key",
    b"content-length",
    b"transfer-encoding",
    b"content-type",
    b"expect",
)
_CR: Final = 13
_AROUND_TARGET: Final = 128  # allowance for the method and the version in a request line
_VERSIONS: Final = (b"HTTP/1.1", b"HTTP/1.0")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_UPGRADE_LINE: Final = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)


class Refusal(Struct, frozen=True):
    """A refused request: the status and the text of the response."""

    status: int
    text: str


def check_partial(data: bytes, start: int, seen: int, limits: ProtocolLimits) -> Refusal | None:
    """Check an incomplete head; one that cannot become valid is refused at once.

    The head begins at `start`; its first `seen` bytes were checked before, so that a head that arrives byte by byte is
    scanned once.
    """
    if not 65 <= data[start] <= 90 and not (data[start] == _CR and len(data) == start + 1):
        return Refusal(400, "this is not HTTP/1.1")
    begin = start + seen - (seen > 0 and data[start + seen - 1] == _CR)
    fresh = data[begin:]
    ends = fresh.count(b"\r\n")
    if fresh.count(b"\n") != ends:
        return Refusal(400, "lines of a head end with CR LF")
    if ends and b"\r\n" not in data[start:begin][: limits.target_bytes + _AROUND_TARGET]:
        return _check_start(data[start : begin + fresh.find(b"\r\n")], limits)
    return None


def too_large(head: bytes) -> Refusal:
    """Refuse an oversized head, given its first bytes: with 414 if the request line has not ended, else with 431."""
    if b"\r\n" in head:
        return Refusal(431, "the header fields are too large")
    return Refusal(414, "the request target is too long")


def check_method(line: bytes) -> Refusal | None:
    """Refuse TRACE and CONNECT by name, given the start of a request line."""
    if line.startswith(b"TRACE "):
        return Refusal(405, "TRACE would show fields that are for the router alone")
    if line.startswith(b"CONNECT "):
        return Refusal(405, "CONNECT asks for a tunnel, and this is no such proxy")
    return None


def _check_start(line: bytes, limits: ProtocolLimits) -> Refusal | None:
    if (refusal := check_method(line)) is not None:
        return refusal
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in _VERSIONS:
        return Refusal(400, "a request line is METHOD /path HTTP/1.1")
    return check_target(parts[1], limits)


def check_target(target: bytes, limits: ProtocolLimits) -> Refusal | None:
    """Check a request target, which is a path with an optional query."""
    if len(target) > limits.target_bytes:
        return Refusal(414, f"the request target is longer than {limits.target_bytes} bytes")
    if not target.startswith(b"/") or b"#" in target or not target.isascii():
        return Refusal(400, "a request target is a path that begins with / and has no fragment")
    return None


def check_fields(fields: Fields, named: Mapping[bytes, bytes], version: str, limits: ProtocolLimits) -> Refusal | None:
    """Check parsed fields: framing, Host, repeated fields, ambiguous names.

    Args:
        fields: in order, names in lower case.
        named: the same fields as a mapping, one value per name.
        version: the HTTP version.
        limits: the cap on the number of fields.
    """
    if len(named) != len(fields):
        refusal = _check_repeated(fields, limits)
        if refusal is not None:
            return refusal
    elif len(fields) > limits.header_lines:
        return Refusal(431, f"more than {limits.header_lines} header fields")
    names = b" ".join(named)
    if b"_" in names or b"." in names:
        return Refusal(400, "a header name with _ or . can be taken for another one")
    text = _wrong_value(named, version)
    return None if text is None else Refusal(400, text)


def _check_repeated(fields: Fields, limits: ProtocolLimits) -> Refusal | None:
    if len(fields) > limits.header_lines:
        return Refusal(431, f"more than {limits.header_lines} header fields")
    names = [name for name, _ in fields]
    for name in _ONCE:
        if names.count(name) > 1:
            return Refusal(400, f"more than one {name.decode()} header")
    return None


def _wrong_value(named: Mapping[bytes, bytes], version: str) -> str | None:
    if version not in {"1.1", "1.0"}:
        return "this is not HTTP/1.1"
    host = named.get(b"host")
    if host is None:
        if version == "1.1":
            return "the Host header is missing"
    elif not _is_host(host):
        return "the Host header is not a host with an optional port"
    length = named.get(b"content-length")
    if length is not None and not length.isdigit():
        return "Content-Length is not a number"
    coding = named.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or version != "1.1"):
        return "Transfer-Encoding can only be chunked, and only in HTTP/1.1"
    return None


@functools.lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def without_upgrade(head: bytes) -> bytes:
    """Return the head without its Upgrade fields; the router never switches protocols.

    llhttp assumes that a request with Upgrade has no body, and would parse the body as the next request.
    """
    return _UPGRADE_LINE.sub(b"", head)
