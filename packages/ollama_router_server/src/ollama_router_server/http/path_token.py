"""A token in the path, `/t/TOKEN/api/chat`, for clients that cannot send headers.

The token is moved to the Authorization field before any other code sees the path, so that no log, metric or error
contains it, not even a malformed token.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["has_path_token", "move_path_token"]

_PREFIX = b"/t/"
_PATH = re.compile(rb"/t/([A-Za-z0-9._~\-]{1,72})(/[^?#]*)?", re.DOTALL)
_NOWHERE = b"/t"
_SCHEMES = {b"authorization": b"bearer", b"x-api-key": b""}
_PLACEHOLDERS = frozenset({b"ollama", b"ollama-local"})
"""Source: the keys in Ollama's cmd/launch."""


def has_path_token(scope: Any) -> bool:
    """Return whether the request path has the token prefix."""
    return _raw_path(scope).startswith(_PREFIX)


def move_path_token(scope: Any) -> dict[str, Any]:
    """Return the scope with the token moved from the path to the Authorization field.

    A request with a second credential is refused later. The placeholder keys that `ollama launch` gives to tools do not
    count as one. The query string is dropped, since it may repeat the token.
    """
    found = _PATH.fullmatch(_raw_path(scope))
    path, headers = _NOWHERE, [field for field in scope["headers"] if not _is_placeholder(*field)]
    if found is not None:
        path = found[2] or b"/"
        headers.append((b"authorization", b"Bearer " + found[1]))
    return {**scope, "raw_path": path, "path": path.decode("latin-1"), "headers": headers, "query_string": b""}


def _is_placeholder(name: bytes, value: bytes) -> bool:
    """Return whether a field holds a placeholder key, as tools for a local Ollama send."""
    scheme, _, key = value.strip().rpartition(b" ")
    return key in _PLACEHOLDERS and scheme.strip().lower() == _SCHEMES.get(name)


def _raw_path(scope: Any) -> bytes:
    raw = scope.get("raw_path")
    return bytes(raw) if raw else str(scope["path"]).encode("utf-8", "replace")
