"""A token in the path: `/t/TOKEN/api/chat`, for clients that can send no header.

The token is moved to the Authorization field before anything else sees the path, so that no log, metric or error
contains it, not even a malformed one.
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
    """Whether a request's path has the prefix for a token."""
    return _raw_path(scope).startswith(_PREFIX)


def move_path_token(scope: Any) -> dict[str, Any]:
    """Return a scope whose token is in the Authorization field and no longer in the path.

    A request that has another credential as well is refused later, like any with two; the words that `ollama launch`
    has tools send for want of a key are none. The query string is dropped, as it may repeat the token.
    """
    found = _PATH.fullmatch(_raw_path(scope))
    path, headers = _NOWHERE, [field for field in scope["headers"] if not _is_placeholder(*field)]
    if found is not None:
        path = found[2] or b"/"
        headers.append((b"authorization", b"Bearer " + found[1]))
    return {**scope, "raw_path": path, "path": path.decode("latin-1"), "headers": headers, "query_string": b""}


def _is_placeholder(name: bytes, value: bytes) -> bool:
    """Whether a field is a key that is none, as tools for a local Ollama send it."""
    scheme, _, key = value.strip().rpartition(b" ")
    return key in _PLACEHOLDERS and scheme.strip().lower() == _SCHEMES.get(name)


def _raw_path(scope: Any) -> bytes:
    raw = scope.get("raw_path")
    return bytes(raw) if raw else str(scope["path"]).encode("utf-8", "replace")
