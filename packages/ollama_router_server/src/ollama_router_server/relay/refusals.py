"""What refused requests leave behind: a few lines or rows of each origin, the others as a count.

A stranger leaves a line in the router's own log, by address; a known user leaves rows in the request log. Neither can
fill a disk: of one address 5 lines and of one user 20 rows in 10 seconds are written in full.
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
_LARGEST_TOLD: Final = 20  # origins with a line of their own about what was left out


class Refusals:
    """The refusals of this process. All of it runs on one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._strangers = RefusalQuota(of_one=5, of_all=100)
        self._users = RefusalQuota(of_one=20, of_all=500)
        self._timer: asyncio.TimerHandle | None = None

    def note_stranger(self, row: RequestRecord, code: str) -> None:
        """Write the line about a request without a known user, or count it."""
        origin = row.client or "(unknown)"
        if self._takes(self._strangers, origin):
            _log.warning("refused", code=code, client=origin, path=row.path, request_id=row.id)

    def keeps(self, row: RequestRecord) -> bool:
        """Tell whether a user's row is written: always, unless it is one of many refusals that reached no server."""
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
        """Log what was left out of periods that are over."""
        now = self._clock.monotonic()
        _tell("refused_left_out", "client", self._strangers.left_out(now))
        _tell("refused_rows_left_out", "user", self._users.left_out(now))


def _tell(event: str, name: str, counts: dict[str, int]) -> None:
    largest = sorted(counts, key=counts.__getitem__, reverse=True)
    for origin in largest[:_LARGEST_TOLD]:
        _log.warning(event, **{name: origin, "count": counts[origin]})
    if rest := largest[_LARGEST_TOLD:]:
        _log.warning(event, **{name: f"({len(rest)} more)", "count": sum(counts[origin] for origin in rest)})
