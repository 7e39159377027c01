"""When refusals are worth a look: many within a minute, for want of room or for somebody's limits."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Final

from ollama_router_core.records.request_record import RequestRecord

__all__ = ["MANY", "RefusalWave", "is_refused"]

MANY: Final = 20
"""Requests refused within a window."""
_WINDOW: Final = 60.0
_TOO_MANY_REQUESTS: Final = 429


def is_refused(record: RequestRecord) -> bool:
    """Whether the router refused it, and not for what it asks: a limit, a full line, no server that can take it."""
    refused = record.status == _TOO_MANY_REQUESTS or record.status >= 500
    return record.attempts == 0 and refused and record.error_code is not None


class RefusalWave:
    """Looks at counts that only grow, from look to look. `now` is any clock that only goes forward, in seconds."""

    __slots__ = ("_looks",)

    def __init__(self) -> None:
        self._looks: deque[tuple[float, Mapping[str, int]]] = deque()

    def see(self, refused: Mapping[str, int], now: float) -> str | None:
        """Say what is wrong while many were refused within the last minute; `refused` counts by error code."""
        self._looks.append((now, dict(refused)))
        while now - self._looks[0][0] > _WINDOW:
            self._looks.popleft()
        new = Counter(refused)
        new.subtract(self._looks[0][1])
        number = new.total()
        if number < MANY:
            return None
        code, most = max(new.items(), key=lambda one: (one[1], one[0]))
        return f"{number} requests were refused within a minute, {most} of them with {code}"
