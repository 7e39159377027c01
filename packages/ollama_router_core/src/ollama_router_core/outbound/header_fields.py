"""Header fields that the router forwards.

Both directions use an allow-list. To servers, the router drops credentials, cookies, Origin and unknown fields (Ollama
itself forwards client headers to ollama.com). To clients, it drops fields that control a proxy in front of the router
or are the router's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ollama_router_core.outbound.destinations import Destination, Fields

__all__ = ["TO_CLIENTS", "TO_SERVERS", "VIA", "answer_fields", "reason_field", "request_fields"]

_TRACE_CONTEXT = frozenset({b"traceparent", b"tracestate"})
_TO_ALL = _TRACE_CONTEXT | {b"accept-language", b"user-agent"}
TO_SERVERS = _TO_ALL | {b"accept", b"anthropic-beta", b"anthropic-version", b"content-type", b"openai-beta"}
"""Names of client fields forwarded to a server of the same API, except those listed in `Connection`."""
_BODY_FIELDS = frozenset({b"content-length", b"content-type", b"etag", b"last-modified"})
TO_CLIENTS = _BODY_FIELDS | {
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
_TO_CLIENTS_REWRITTEN = TO_CLIENTS - _BODY_FIELDS - {b"content-encoding"}
_NO_NAMES: frozenset[bytes] = frozenset()


def request_fields(
    client: Iterable[tuple[bytes, bytes]],
    destination: Destination,
    request_id: str,
    *,
    own: Fields = (),
    defaults: Fields = (),
    translated: bool = False,
) -> Fields:
    """Return a destination's fields: the client's that may be forwarded, the request id, and the credential.

    Names are in lower case. Fields of `own` replace the client's of the same name, `defaults` are for missing names. A
    `translated` request drops fields of the client's dialect.
    """
    allowed = _TO_ALL if translated else TO_SERVERS
    if not destination.traced:
        allowed, own = allowed - _TRACE_CONTEXT, tuple(field for field in own if field[0] not in _TRACE_CONTEXT)
    kept: list[tuple[bytes, bytes]] = []
    nominated = _NO_NAMES
    for field in client:
        if field[0] in allowed:
            kept.append(field)
        elif field[0] == b"connection":
            nominated |= _tokens(field[1])
    added = (*own, *destination.credential)
    if added or nominated:
        never = nominated.union([name for name, _ in added])
        kept = [field for field in kept if field[0] not in never]
    fields = (*kept, VIA, *added)
    if defaults:
        present = {name for name, _ in fields}
        fields = (*fields, *(field for field in defaults if field[0] not in present))
    return (*fields, (b"x-request-id", request_id.encode()))


def answer_fields(server: Iterable[tuple[bytes, bytes]], *, rewritten: bool = False) -> list[tuple[bytes, bytes]]:
    """Return a server's response fields for the client, without those about the body if it was `rewritten`."""
    allowed = _TO_CLIENTS_REWRITTEN if rewritten else TO_CLIENTS
    kept: list[tuple[bytes, bytes]] = []
    nominated = _NO_NAMES
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
