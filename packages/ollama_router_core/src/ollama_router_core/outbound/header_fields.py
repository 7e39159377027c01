"""Header fields that the router forwards.

Both directions use an allow-list. To servers, the router drops credentials, cookies, Origin and unknown fields (Ollama
itself forwards client headers to ollama.com). To clients, it drops fields that control a proxy in front of the router
or are the router's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ollama_router_core.outbound.destinations import Destination, Fields

__all__ = ["TO_CLIENTS", "TO_SERVERS", "VIA", "answer_fields", "passed_fields", "reason_field", "request_fields"]

_TRACE_CONTEXT = frozenset({b"traceparent", b"tracestate"})
_TO_ALL = _TRACE_CONTEXT | {b"accept-language", b"user-agent"}
TO_SERVERS = _TO_ALL | {b"accept", b"anthropic-beta", b"anthropic-version", b"content-type", b"openai-beta"}
"""Names of client fields forwarded to a server of the same API, except those listed in `Connection`."""
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
"""Names of server fields forwarded to a client, except those listed in `Connection`.

Excluded are fields that control a proxy (`X-Accel-*`, `X-Sendfile`), fields that the router sets itself (`Retry-After`,
`X-RateLimit-*`, `Cache-Control`) and fields that change client state (`Set-Cookie`, CORS).
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
    """Build a destination's fields: `passed_fields`, the request id, and `defaults` for missing names."""
    fields = passed_fields(client, destination, own=own, translated=translated)
    if defaults:
        there = {name for name, _ in fields}
        fields = (*fields, *(field for field in defaults if field[0] not in there))
    return (*fields, (b"x-request-id", request_id.encode()))


def passed_fields(
    client: Iterable[tuple[bytes, bytes]], destination: Destination, *, own: Fields = (), translated: bool = False
) -> Fields:
    """Return the client fields for a destination, with the destination's credential.

    Names are in lower case. Fields of `own` replace the client's of the same name. A `translated` request drops fields
    of the client's dialect.
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
    """Return a server's response fields for the client, without those about the body if it was `rewritten`."""
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
    """Return the field names listed in a Connection field."""
    return frozenset([token.strip().lower() for token in connection.split(b",")])
