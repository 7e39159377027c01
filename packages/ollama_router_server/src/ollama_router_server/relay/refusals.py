"""Refused requests: a bounded number of log lines or records per origin; the rest are counted.

A client without a known user leaves a line in the router's own log, by address; a known user leaves a record in the
request log. In 10 seconds, at most 5 lines per address and 20 records per user are written, so that neither fills a
disk.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from ollama_router_core.records.refusal_quota import RefusalQuota
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.system import Clock

__all__ = ["Refusals"]

_log = structlog.get_logger("relay")
_LOOK_EVERY: Final = 1.0
_LARGEST_TOLD: Final = 20  # origins whose left-out refusals get a line of their own


class Refusals:
    """The refusals of this process. Not thread-safe: runs on one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._strangers = RefusalQuota(of_one=5, of_all=100)
        self._users = RefusalQuota(of_one=20, of_all=500)
        self._timer: asyncio.TimerHandle | None = None

    def note_stranger(self, row: RequestRecord, code: str) -> None:
        """Log a refused request without a known user, or count it."""
        origin = row.client or "(unknown)"
        if self._takes(self._strangers, origin):
            _log.warning("refused", code=code, client=origin, path=row.path, request_id=row.id)

    def keeps(self, row: RequestRecord) -> bool:
        """Return whether to write a user's record; False only for refusals over the quota that reached no server."""
        refused = row.error_code is not None and 400 <= row.status < 500 and not row.attempts
        return not refused or self._takes(self._users, row.user or "(unknown)")

    def _takes(self, quota: RefusalQuota, origin: str) -> bool:
        self.tell()
        taken = quota.take(origin, self._clock.monotonic())
        self._look_again()
        return taken

    def _look_again(self) -> None:
        if self._timer is None and (self._strangers.pending or self._users.pending):
            self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        self._timer = None
        self.tell()
        self._look_again()

    def tell(self) -> None:
        """Log the counts of periods that have ended."""
        now = self._clock.monotonic()
        _log_counts("refused_left_out", "client", self._strangers.left_out(now))
        _log_counts("refused_rows_left_out", "user", self._users.left_out(now))


def _log_counts(event: str, name: str, counts: dict[str, int]) -> None:
    largest = sorted(counts, key=counts.__getitem__, reverse=True)
    for origin in largest[:_LARGEST_TOLD]:
        _log.warning(event, **{name: origin, "count": counts[origin]})
    if rest := largest[_LARGEST_TOLD:]:
        _log.warning(event, **{name: f"({len(rest)} more)", "count": sum(counts[origin] for origin in rest)})
