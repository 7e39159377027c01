"""CORS: origins of web pages that may use the router, and the header fields for their browsers.

Allowed are the origins that Ollama allows, the router's own, and those in the settings. No response allows
credentials: a page needs a token, and the API ignores cookies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from ollama_router_core.errors import Forbidden

__all__ = ["allowed_origin_fields", "check_origin", "preflight_fields"]

Fields = tuple[tuple[bytes, bytes], ...]

_LOCAL = re.compile(
    r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)(?::[0-9]{1,5})?|(?:app|file|tauri|vscode-webview|vscode-file)://.*",
    re.DOTALL,
)
_LONGEST = 1024  # characters of an origin
_METHODS = b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_OLLAMA_FIELDS = (
    "authorization", "content-type", "user-agent", "accept", "x-requested-with", "openai-beta", "x-stainless-arch",
    "x-stainless-async", "x-stainless-custom-poll-interval", "x-stainless-helper-method", "x-stainless-lang",
    "x-stainless-os", "x-stainless-package-version", "x-stainless-poll-helper", "x-stainless-retry-count",
    "x-stainless-runtime", "x-stainless-runtime-version", "x-stainless-timeout",
)  # fmt: skip
_ROUTER_FIELDS = (
    "anthropic-beta", "anthropic-dangerous-direct-browser-access", "anthropic-version", "traceparent", "tracestate",
    "x-api-key", "x-router-pin", "x-router-target",
)  # fmt: skip
_REQUEST_FIELDS = ", ".join((*_OLLAMA_FIELDS, *_ROUTER_FIELDS)).encode()
_LIMITS = tuple(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens"))
_EXPOSED = (
    "openai-processing-ms", "request-id", "retry-after", "x-request-id", "x-router-attempts", "x-router-cached-tokens",
    "x-router-dropped", "x-router-error", "x-router-estimate", "x-router-fallback", "x-router-queue-position",
    "x-router-reason", "x-router-request-id", "x-router-server", "x-should-retry",
)  # fmt: skip
_ANSWER_FIELDS = ", ".join((*_EXPOSED, *_LIMITS)).encode()
_SECONDS = b"43200"


def check_origin(origin: str, host: str | None, allowed: Iterable[str]) -> None:
    """Check a request's origin; `host` is the Host field, `allowed` are `cors.origins`.

    Raises:
        Forbidden: the origin is not allowed; the text names the setting.
    """
    if len(origin) > _LONGEST or not _is_allowed(origin.lower(), host, allowed):
        raise Forbidden(
            "web pages from this origin may not use the router; an administrator can add it to cors.origins"
        )


def allowed_origin_fields(origin: str, allowed: Iterable[str]) -> Fields:
    """Return the header fields that let a browser expose a response to an allowed page."""
    shown = b"*" if "*" in allowed else origin.encode("latin-1")
    return (
        (b"access-control-allow-origin", shown),
        (b"access-control-expose-headers", _ANSWER_FIELDS),
        (b"vary", b"Origin"),
    )


def preflight_fields(origin: str, allowed: Iterable[str]) -> Fields:
    """Return the header fields of a preflight response; the browser may cache it for 12 hours."""
    return (
        allowed_origin_fields(origin, allowed)[0],
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _REQUEST_FIELDS),
        (b"access-control-max-age", _SECONDS),
        (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    )


def _is_allowed(origin: str, host: str | None, allowed: Iterable[str]) -> bool:
    if host is not None and origin in {f"http://{host.lower()}", f"https://{host.lower()}"}:
        return True
    return _LOCAL.fullmatch(origin) is not None or any(_fits(origin, pattern) for pattern in allowed)


def _fits(origin: str, pattern: str) -> bool:
    return pattern == "*" or _matcher(pattern).fullmatch(origin) is not None


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.lower().rstrip("/").split("*")), re.DOTALL)
