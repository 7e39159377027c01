"""Detection of waves of refusals: many within a minute, for lack of capacity or because of limits."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Final

from ollama_router_core.records.request_record import RequestRecord

__all__ = ["MANY", "RefusalWave", "is_refused"]

MANY: Final = 20
"""Number of refused requests within a window that makes a wave."""
_WINDOW: Final = 60.0
_TOO_MANY_REQUESTS: Final = 429


def is_refused(record: RequestRecord) -> bool:
    """Return whether the router refused a request for a reason other than its content.

    Such reasons are a limit, a full queue or no available server.
    """
    refused = record.status == _TOO_MANY_REQUESTS or record.status >= 500
    return record.attempts == 0 and refused and record.error_code is not None


class RefusalWave:
    """Compare successive values of cumulative counters. `now` is seconds of a monotonic clock."""

    __slots__ = ("_looks",)

    def __init__(self) -> None:
        self._looks: deque[tuple[float, Mapping[str, int]]] = deque()

    def see(self, refused: Mapping[str, int], now: float) -> str | None:
        """Return a message while many requests were refused in the last minute; `refused` are totals by error code."""
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
