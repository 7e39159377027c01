"""The limit on open files, which bounds the process's connections."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

__all__ = ["most_connections", "raise_file_limit"]

_RESERVED: Final = 128
"""Files for the database, logs, the event loop and server polls."""
_FILES_OF_A_CONNECTION: Final = 2
"""The client's socket, and the server's while a request is in flight."""
_WITHOUT_LIMIT: Final = 1 << 20


def raise_file_limit() -> None:
    """Raise the soft limit to the hard one, as far as the platform allows."""
    try:
        import resource  # noqa: PLC0415 - not on every platform
    except ImportError:  # pragma: no cover - depends on the platform
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS: the limit is lower than reported
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections() -> int:
    """Return how many client connections fit into the soft limit."""
    try:
        import resource  # noqa: PLC0415 - not on every platform
    except ImportError:  # pragma: no cover - depends on the platform
        return _WITHOUT_LIMIT
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _WITHOUT_LIMIT if soft == resource.RLIM_INFINITY else soft
    return max(1, (files - _RESERVED) // _FILES_OF_A_CONNECTION)
