"""Which header fields cross the router, and which never do.

Belongs here: filtering and building header fields in both directions.
Does not belong here: bodies, framing (the engine and the HTTP server write their own).

Towards servers an allow-list decides: credentials, cookies, Origin and whatever a client invents stay here (Ollama
itself passes client headers on to ollama.com). Towards clients a deny-list decides (RFC 9110 7.6.1 and secrets).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ollama_router_server.targets import Target
from ollama_router_server.upstream.interface import Headers

__all__ = ["answer_headers", "reason_text", "upstream_headers"]

_TO_SERVERS = frozenset({
    b"accept",
    b"accept-language",
    b"anthropic-beta",
    b"anthropic-version",
    b"content-type",
    b"openai-beta",
    b"traceparent",
    b"tracestate",
    b"user-agent",
})  # fmt: skip
_NEVER_TO_CLIENTS = frozenset({
    b"access-control-allow-credentials",
    b"access-control-allow-origin",
    b"alt-svc",
    b"connection",
    b"date",
    b"keep-alive",
    b"location",
    b"openai-organization",
    b"openai-project",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"server",
    b"set-cookie",
    b"set-cookie2",
    b"strict-transport-security",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"www-authenticate",
    b"x-router-attempts",
    b"x-router-dropped",
    b"x-router-error",
    b"x-router-reason",
    b"x-router-request-id",
    b"x-router-server",
})  # fmt: skip
_VIA = (b"via", b"1.1 ollama-router")


def upstream_headers(
    client: Iterable[tuple[bytes, bytes]], target: Target, request_id: str, content_type: bytes | None = None
) -> Headers:
    """The fields a server gets: those of the client that matter to it, our id, and the key that is for it alone.

    `content_type` stands in place of the client's when the body was written anew.
    """
    nominated = _nominated(client)
    kept = [(name, value) for name, value in client if name in _TO_SERVERS and name not in nominated]
    if content_type is not None:
        kept = [field for field in kept if field[0] != b"content-type"]
        kept.append((b"content-type", content_type))
    return (*kept, _VIA, (b"x-request-id", request_id.encode()), *target.credential)


def answer_headers(server: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields of a server's answer that a client gets."""
    nominated = _nominated(server)
    return [(name, value) for name, value in server if name not in _NEVER_TO_CLIENTS and name not in nominated]


@lru_cache(maxsize=1024)
def reason_text(reason: str) -> bytes:
    """A decision's reason as a header value: printable ASCII, at most 512 bytes."""
    text = reason.encode("ascii", "replace")[:512]
    return bytes(byte if 32 <= byte < 127 else 32 for byte in text)


_NOBODY: frozenset[bytes] = frozenset()


def _nominated(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    values = [value for name, value in headers if name == b"connection"]
    if not values:
        return _NOBODY
    return frozenset(token.strip().lower() for value in values for token in value.split(b","))
