"""The encoded status lines of HTTP/1.1 responses."""

from __future__ import annotations

import http
from typing import Final

__all__ = ["STATUS_LINES"]


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


STATUS_LINES: Final = {status: _status_line(status) for status in range(100, 600)}
