"""The route table, and the handling of unknown routes, as in gin and Go's ServeMux."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from http.client import responses

from ollama_router_core.testing import (
    routes_infer,
    routes_library,
    routes_newer,
    routes_read,
    routes_v1,
)
from ollama_router_core.testing.error_replies import (
    ApiError,
    ErrorShape,
    anthropic_error,
    native_error,
    openai_error,
)
from ollama_router_core.testing.exchange import JSON, JSON_UTF8, NO_CACHE, Exchange
from ollama_router_core.testing.origin_checks import is_allowed_host, is_allowed_origin
from ollama_router_core.testing.shared_state import Route, ServerState

__all__ = ["INFERENCE_PATHS", "answer"]

INFERENCE_PATHS = frozenset(
    {
        "/api/generate",
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/responses",
        "/v1/responses/compact",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/audio/speech",
        "/v1/systemone",
        "/v1/audio/transcriptions",
    }
)

_ROUTES: dict[str, Mapping[str, Route]] = {
    "/": {"GET": routes_read.root, "HEAD": routes_read.root},
    "/api/version": {"GET": routes_read.version, "HEAD": routes_read.version},
    "/api/status": {"GET": routes_read.status},
    "/api/tags": {"GET": routes_read.tags, "HEAD": routes_read.tags},
    "/api/ps": {"GET": routes_read.ps},
    "/api/show": {"POST": routes_read.show},
    "/api/generate": {"POST": routes_infer.generate},
    "/api/chat": {"POST": routes_infer.chat},
    "/api/embed": {"POST": routes_infer.embed},
    "/api/embeddings": {"POST": routes_infer.embeddings},
    "/api/pull": {"POST": routes_library.pull},
    "/api/push": {"POST": routes_library.push},
    "/api/create": {"POST": routes_library.create},
    "/api/copy": {"POST": routes_library.copy},
    "/api/delete": {"DELETE": routes_library.delete},
    "/api/blobs/:digest": {"HEAD": routes_library.head_blob, "POST": routes_library.post_blob},
    "/api/me": {"POST": routes_read.me},
    "/api/signout": {"POST": routes_read.signed_out},
    "/api/user/keys/:key": {"DELETE": routes_read.signed_out},
    "/api/experimental/web_search": {"POST": routes_read.cloud_only},
    "/api/experimental/web_fetch": {"POST": routes_read.cloud_only},
    "/api/experimental/model-recommendations": {"GET": routes_read.recommendations},
    "/v1/chat/completions": {"POST": routes_v1.chat_completions},
    "/v1/completions": {"POST": routes_v1.completions},
    "/v1/embeddings": {"POST": routes_v1.embeddings},
    "/v1/models": {"GET": routes_v1.models},
    "/v1/models/:model": {"GET": routes_v1.one_model},
    "/v1/messages": {"POST": routes_v1.messages},
    "/v1/responses": {"POST": routes_newer.responses},
    "/v1/responses/compact": {"POST": routes_newer.compact},
    "/v1/images/generations": {"POST": routes_newer.images},
    "/v1/images/edits": {"POST": routes_newer.images},
    "/v1/audio/speech": {"POST": routes_newer.speech},
    "/v1/systemone": {"POST": routes_newer.systemone},
    "/v1/audio/transcriptions": {"POST": routes_newer.transcriptions},
}
_UNCACHED = frozenset({"/v1/messages", "/v1/responses"})
_SINCE: Mapping[str, tuple[int, ...]] = {
    "/v1/responses": (0, 13, 3),
    "/v1/messages": (0, 14),
    "/api/status": (0, 16, 2),
    "/api/experimental/web_search": (0, 18),
    "/api/experimental/web_fetch": (0, 18),
    "/v1/audio/transcriptions": (0, 20),
    "/api/experimental/model-recommendations": (0, 23),
    "/v1/responses/compact": (0, 33, 1),
    "/v1/images/generations": (0, 14, 3),
    "/v1/images/edits": (0, 14, 3),
    "/v1/systemone": (0, 35),
    "/v1/audio/speech": (0, 40, 8),
}
_GONE = {"/v1/images/generations": (0, 33), "/v1/images/edits": (0, 33)}


async def answer(server: ServerState, exchange: Exchange) -> None:
    """Handle one request: inject its fault, find its route, format its errors."""
    if await exchange.misbehave() or await _redirected(server, exchange):
        return
    if server.settings.allowed_hosts and not _is_allowed(exchange):
        await exchange.whole(403, b"")
        return
    known = server.settings.at_least(*_SINCE.get(exchange.path, ()))
    known = known and not (exchange.path in _GONE and server.settings.at_least(*_GONE[exchange.path]))
    methods = _match(exchange) if known else None
    route = methods.get(exchange.record.method) if methods else None
    if route is None:
        await _refuse_route(server, exchange, methods or {})
        return
    try:
        await route(server, exchange)
    except ApiError as error:
        await _refuse(exchange, error)


async def _refuse_route(server: ServerState, exchange: Exchange, methods: Mapping[str, Route]) -> None:
    """Send gin's own texts, without a charset; methods are in the order of gin's route trees."""
    if not methods or not server.settings.at_least(0, 6, 9):
        await exchange.whole(404, b"404 page not found", "text/plain")
        return
    allowed = ", ".join(method for method in ("HEAD", "GET", "POST", "DELETE") if method in methods)
    await exchange.whole(405, b"405 method not allowed", "text/plain", [("Allow", allowed)])


async def _refuse(exchange: Exchange, error: ApiError) -> None:
    shape: ErrorShape = native_error
    if exchange.path.startswith("/v1/") and not error.native:
        shape = anthropic_error if exchange.path == "/v1/messages" else openai_error
    rewritten = shape is not native_error and not error.early  # by the writer that translates for the handler
    content_type = JSON if rewritten or error.streaming else JSON_UTF8
    if error.flushed:
        headers = NO_CACHE if exchange.path in _UNCACHED else ()
        await exchange.flushed_json(error.status, shape(error), headers, newline=rewritten)
    else:
        await exchange.json(error.status, shape(error), content_type=content_type, newline=rewritten)


def _is_allowed(exchange: Exchange) -> bool:
    host, origin = exchange.record.header("Host") or "", exchange.record.header("Origin")
    return is_allowed_host(host) and (origin is None or is_allowed_origin(origin, host))


def _match(exchange: Exchange) -> Mapping[str, Route] | None:
    found = _ROUTES.get(exchange.path)
    if found is not None:
        return found
    head, _, last = exchange.path.rpartition("/")
    for pattern, methods in _ROUTES.items():
        prefix, colon, parameter = pattern.rpartition("/:")
        if colon and prefix == head and last:
            exchange.params[parameter] = last
            return methods
    return None


async def _redirected(server: ServerState, exchange: Exchange) -> bool:
    """Redirect unnormalised paths, and those with a missing or an extra trailing slash."""
    path = exchange.path
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if path.endswith("/") and clean != "/":
        clean += "/"
    if clean != path:  # by Go's ServeMux, which changed its mind with Go 1.26
        await _redirect(exchange, 307 if server.settings.at_least(0, 30) else 301, clean)
        return True
    other = path[:-1] if path.endswith("/") else path + "/"
    if path != "/" and path not in _ROUTES and other in _ROUTES:
        await _redirect(exchange, 301 if exchange.record.method == "GET" else 307, other)
        return True
    return False


async def _redirect(exchange: Exchange, status: int, path: str) -> None:
    location = path + (f"?{exchange.query}" if exchange.query else "")
    body = f'<a href="{location}">{responses[status]}</a>.\n\n' if exchange.record.method == "GET" else ""
    content_type = "text/html; charset=utf-8" if exchange.record.method in {"GET", "HEAD"} else ""
    await exchange.whole(status, body.encode(), content_type, [("Location", location)])
