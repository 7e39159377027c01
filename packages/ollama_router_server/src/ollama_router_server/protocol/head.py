"""What is refused in a request's head, whatever the parser says.

Belongs here: rules over the bytes of a head and over its parsed fields; each names the reason a client is told.
Does not belong here: sockets, time, what happens after a refusal.

Every check is a search or a count over the whole head: a good head is never split into lines here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ollama_router_server.protocol.limits import ProtocolLimits

__all__ = ["Refusal", "check_fields", "check_head", "check_partial", "too_large", "without_upgrade"]

Fields = list[tuple[bytes, bytes]]

_ONCE: Final = (b"host", b"authorization", b"x-api-key", b"content-length", b"transfer-encoding", b"content-type")
_CHECKED: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_VERSIONS: Final = (b"HTTP/1.1", b"HTTP/1.0")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_UPGRADE_LINE: Final = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken: a status and a text for the client."""

    status: int
    text: str


def check_head(head: bytes, limits: ProtocolLimits) -> Refusal | None:
    """Judge a complete head, given without the empty line that ends it."""
    fields = head.count(b"\r\n")
    if head.count(b"\n") != fields or head.count(b"\r") != fields:
        return Refusal(400, "lines of a head end with CR LF")
    if fields > limits.header_lines:
        return Refusal(431, f"more than {limits.header_lines} header fields")
    if b"\r\n " in head or b"\r\n\t" in head:
        return Refusal(400, "a header field is folded over several lines")
    return _check_start(head.split(b"\r\n", 1)[0], limits)


def check_partial(head: bytes, limits: ProtocolLimits) -> Refusal | None:
    """Judge the beginning of a head: what cannot become a good one is refused without waiting for the rest."""
    if not 65 <= head[0] <= 90 and head != b"\r":
        return Refusal(400, "this is not HTTP/1.1")
    if head.count(b"\n") != head.count(b"\r\n"):
        return Refusal(400, "lines of a head end with CR LF")
    start, end, _ = head.partition(b"\r\n")
    if end:
        refusal = _check_start(start, limits)
        if refusal is not None:
            return refusal
    return None


def too_large(head: bytes) -> Refusal:
    """The refusal of a head above the limit, given up to there: the target's fault if its line has not ended."""
    if b"\r\n" in head:
        return Refusal(431, "the header fields are too large")
    return Refusal(414, "the request target is too long")


def _check_start(line: bytes, limits: ProtocolLimits) -> Refusal | None:
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in _VERSIONS:
        return Refusal(400, "a request line is METHOD /path HTTP/1.1")
    method, target, _ = parts
    if len(target) > limits.target_bytes:
        return Refusal(414, f"the request target is longer than {limits.target_bytes} bytes")
    if method == b"CONNECT" or not target.startswith(b"/") or b"#" in target or not target.isascii():
        return Refusal(400, "a request target is a path that begins with / and has no fragment")
    return None


def check_fields(fields: Fields, version: str) -> Refusal | None:
    """Judge parsed fields (names in lower case): framing, Host, what must not be repeated or disguised."""
    names = [name for name, _ in fields]
    joined = b" ".join(names)
    if b"_" in joined or b"." in joined:
        return Refusal(400, "a header name with _ or . can be taken for another one")
    if len(set(names)) != len(names):
        for name in _ONCE:
            if names.count(name) > 1:
                return Refusal(400, f"more than one {name.decode()} header")
    if version == "1.1" and b"host" not in names:
        return Refusal(400, "the Host header is missing")
    for name, value in fields:
        text = _wrong_value(name, value, version) if name in _CHECKED else None
        if text is not None:
            return Refusal(400, text)
    return None


def _wrong_value(name: bytes, value: bytes, version: str) -> str | None:
    if name == b"host" and _HOST.fullmatch(value) is None:
        return "the Host header is not a host with an optional port"
    if name == b"content-length" and not value.isdigit():
        return "Content-Length is not a number"
    if name == b"transfer-encoding" and (value.lower() != b"chunked" or version != "1.1"):
        return "Transfer-Encoding can only be chunked, and only in HTTP/1.1"
    return None


def without_upgrade(head: bytes) -> bytes:
    """The head without its Upgrade fields: an offer to switch protocols is never taken.

    llhttp believes that a request with one has no body, and would take the body for the next request.
    """
    return _UPGRADE_LINE.sub(b"", head) if b"upgrade" in head.lower() else head
