"""A token in the path: `/t/TOKEN/api/chat`, for clients that can send no header.

From here on the token stands where others stand, in the Authorization field; no log, metric or error sees a path with
a token in it, a malformed one included.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["has_path_token", "move_path_token"]

_PREFIX = b"/t/"
_PATH = re.compile(rb"/t/([A-Za-z0-9._~\-]{1,72})(/[^?#]*)?", re.DOTALL)
_NOWHERE = b"/t"


def has_path_token(scope: Any) -> bool:
    """Whether a request's path looks as if it held a token."""
    return _raw_path(scope).startswith(_PREFIX)


def move_path_token(scope: Any) -> dict[str, Any]:
    """A scope without the token in its path, with it in the Authorization field.

    A request that has a credential of its own too is refused later, as any with two. Query strings are dropped: a
    client may have the token there too.
    """
    found = _PATH.fullmatch(_raw_path(scope))
    path, headers = _NOWHERE, list(scope["headers"])
    if found is not None:
        path = found[2] or b"/"
        headers.append((b"authorization", b"Bearer " + found[1]))
    return {**scope, "raw_path": path, "path": path.decode("latin-1"), "headers": headers, "query_string": b""}


def _raw_path(scope: Any) -> bytes:
    raw = scope.get("raw_path")
    return bytes(raw) if raw else str(scope["path"]).encode("utf-8", "replace")
