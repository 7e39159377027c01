"""Which header fields cross the router, and which never do.

An allow-list decides in both directions. Towards servers: credentials, cookies, Origin and whatever a client invents
stay here (Ollama itself passes client headers on to ollama.com). Towards clients: a server must not steer the proxy in
front of the router, nor speak in the router's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ollama_router_core.outbound.destinations import Destination, Fields

__all__ = ["TO_CLIENTS", "TO_SERVERS", "VIA", "answer_fields", "passed_fields", "reason_field", "request_fields"]

_TRACE_CONTEXT = frozenset({b"traceparent", b"tracestate"})
_TO_ALL = _TRACE_CONTEXT | {b"accept-language", b"user-agent"}
TO_SERVERS = _TO_ALL | {b"accept", b"anthropic-beta", b"anthropic-version", b"content-type", b"openai-beta"}
"""The names of a client's fields that a server of the same API gets, but for those that `Connection` nominates."""
_OF_THE_BODY = frozenset({b"content-length", b"content-type", b"etag", b"last-modified"})
TO_CLIENTS = _OF_THE_BODY | {
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"openai-processing-ms",
    b"openai-version",
    b"request-id",
    b"x-request-id",
}
"""The names of a server's fields that a client gets, but for those that `Connection` nominates.

Fields that a proxy in front acts on (`X-Accel-*`, `X-Sendfile`), that are the router's to say (`Retry-After`,
`X-RateLimit-*`, `Cache-Control`) or that set something at the client (`Set-Cookie`, CORS) are not among them.
"""
VIA = (b"via", b"1.1 ollama-router")
_IN_OTHER_WORDS = TO_CLIENTS - _OF_THE_BODY - {b"content-encoding"}
_NOBODY: frozenset[bytes] = frozenset()


def request_fields(
    client: Iterable[tuple[bytes, bytes]],
    destination: Destination,
    request_id: str,
    *,
    own: Fields = (),
    defaults: Fields = (),
    translated: bool = False,
) -> Fields:
    """Build a destination's fields: `passed_fields`, our id, and those of `defaults` whose names are not there yet."""
    fields = passed_fields(client, destination, own=own, translated=translated)
    if defaults:
        there = {name for name, _ in fields}
        fields = (*fields, *(field for field in defaults if field[0] not in there))
    return (*fields, (b"x-request-id", request_id.encode()))


def passed_fields(
    client: Iterable[tuple[bytes, bytes]], destination: Destination, *, own: Fields = (), translated: bool = False
) -> Fields:
    """Return the fields of a client that matter to a destination, and the key that is for it alone.

    Names are in lower case. `own` stand in place of the client's of the same name. A `translated` request takes
    nothing along that belongs to the client's dialect.
    """
    allowed = _TO_ALL if translated else TO_SERVERS
    if not destination.traced:
        allowed, own = allowed - _TRACE_CONTEXT, tuple(field for field in own if field[0] not in _TRACE_CONTEXT)
    kept: list[tuple[bytes, bytes]] = []
    nominated = _NOBODY
    for field in client:
        if field[0] in allowed:
            kept.append(field)
        elif field[0] == b"connection":
            nominated |= _tokens(field[1])
    fields = (*own, *destination.credential)
    if fields or nominated:
        never = nominated.union([name for name, _ in fields])
        kept = [field for field in kept if field[0] not in never]
    return (*kept, VIA, *fields)


def answer_fields(server: Iterable[tuple[bytes, bytes]], *, rewritten: bool = False) -> list[tuple[bytes, bytes]]:
    """Return the fields of a server's answer that a client gets, without those about its body if it was `rewritten`."""
    allowed = _IN_OTHER_WORDS if rewritten else TO_CLIENTS
    kept: list[tuple[bytes, bytes]] = []
    nominated = _NOBODY
    for field in server:
        name = field[0]
        if name in allowed:
            kept.append(field)
        elif name == b"connection":
            nominated |= _tokens(field[1])
    return [field for field in kept if field[0] not in nominated] if nominated else kept


@lru_cache(maxsize=1024)  # 9 us
def reason_field(reason: str) -> bytes:
    """Encode a decision's reason as a header value: printable ASCII, at most 512 bytes."""
    text = reason.encode("ascii", "replace")[:512]
    return bytes(byte if 32 <= byte < 127 else 32 for byte in text)


def _tokens(connection: bytes) -> frozenset[bytes]:
    """Return the names of the fields that a Connection field limits to this connection."""
    return frozenset([token.strip().lower() for token in connection.split(b",")])
