"""The sink of a running router: records into the database, in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

import structlog

from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.row_journal import RowJournal
from ollama_router_server.storage.row_spill import RowSpill
from ollama_router_server.system import Clock

__all__ = ["DatabaseSink"]

_PAUSE = 0.25  # seconds between attempts while the database accepts no rows
_LOOKS = 1.0  # seconds between looks for what processes that ended have left

_log = structlog.get_logger(__name__)


class DatabaseSink:
    """Takes records at once and writes them in batches, from one task.

    While the database cannot take rows, `max_pending` of them wait in memory; those beyond, and what is left at the
    end, go into the spill. Rows that no spill takes are dropped and counted; the count is written once the database
    answers. A row that it never takes (a NUL in a text, for example) is dropped alone.

    Args:
        log: the database's request log.
        clock: for the note of rows that were dropped.
        spill: takes what memory does not, until the database does; has what processes that ended have left.
        journal: has the rows in memory, too, in case this process is killed.
        away: called when the database takes no rows, and with False when it takes them again.
        max_pending: rows held in memory.
        flush_interval: seconds that a row waits for company.
        batch_size: rows that end the wait early, and the most in one transaction.
    """

    def __init__(
        self,
        log: RequestLog,
        *,
        clock: Clock,
        spill: RowSpill,
        journal: RowJournal,
        away: Callable[[bool], None] = lambda _is_away: None,
        max_pending: int = 10_000,
        flush_interval: float = 0.15,
        batch_size: int = 500,
    ) -> None:
        self._log = log
        self._clock = clock
        self._max_pending = max_pending
        self._flush_interval = flush_interval
        self._batch_size = batch_size
        self._spill = spill
        self._journal = journal
        self._away = away
        self._queue: deque[RequestRecord] = deque()
        self._changed = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._noted = 0
        self._look_at = clock.monotonic() + _LOOKS
        self.dropped = 0
        """Rows lost since the start."""
        self.last_error: str | None = None
        """Why rows cannot be written at the moment; None while they can."""

    @property
    def pending(self) -> int:
        """Rows that wait, in memory and in the spill."""
        return len(self._queue) + self._spill.rows

    def holds(self, user: str | None) -> bool:
        """Whether rows wait in memory: of this user, or any if None."""
        return bool(self._queue) if user is None else any(row.user == user for row in self._queue)

    def find(self, request_id: str) -> RequestRecord | None:
        """Find a row that waits in memory, by its request's id."""
        return next((row for row in self._queue if row.id == request_id), None)

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self.last_error is None

    def start(self) -> None:
        """Begin to write; needs a running event loop."""
        self._task = asyncio.create_task(self._run())

    def write(self, record: RequestRecord) -> None:
        """Take one record, on the thread of the event loop; never waits, never raises."""
        if self._closing or len(self._queue) >= self._max_pending:
            self.dropped += not self._spill.add(record)
            return
        self._queue.append(record)
        self._journal.add(record)
        if len(self._queue) in {1, self._batch_size}:
            self._changed.set()

    async def aclose(self, *, grace: float = 5.0) -> None:
        """Write what waits, for at most `grace` seconds; what is left is spilled, or stays in the journal.

        A transaction under way may still be committed: both are to be closed after the database.
        """
        self._closing = True
        self._changed.set()
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=grace)
            if not done:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        refused = sum(not self._spill.add(record) for record in self._queue)
        if not refused:
            self._journal.written(len(self._queue))
        self._queue.clear()  # what the spill refused the journal has: the next start reads it in

    async def _run(self) -> None:
        while await self._work():
            if not await self._write_some():
                if self._closing and not self._queue:
                    return  # only a count is left to write, and it is not worth waiting for
                await asyncio.sleep(_PAUSE)

    async def _work(self) -> bool:
        """Wait until there may be something to write; False when closing and all is written."""
        await self._until(lambda: self._closing or self._unwritten, _LOOKS)
        await self._until(lambda: self._closing or len(self._queue) >= self._batch_size, self._flush_interval)
        if self._clock.monotonic() >= self._look_at and not self._closing:
            self._look_at = self._clock.monotonic() + _LOOKS
            self._spill.look()  # left by other processes: rows are written without waiting for a restart
        return self._unwritten or not self._closing

    @property
    def _unwritten(self) -> bool:
        return bool(self._queue) or self.dropped != self._noted or (self._spill.waiting and not self._closing)

    async def _until(self, reached: Callable[[], bool], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not reached():
                    self._changed.clear()
                    await self._changed.wait()

    async def _write_some(self) -> bool:
        """Write the oldest rows, then some of what was spilled; False if the database cannot take any now."""
        try:
            batch = list(islice(self._queue, self._batch_size))
            refused = await self._insert(batch, again=not self.healthy)
            self.dropped += refused
            for _ in batch:
                self._queue.popleft()
            self._journal.written(len(batch))
            await self._read_in()
            await self._note_dropped()
        except StorageUnavailable as error:
            self._report(str(error))
            return False
        self._report(None)
        return True

    async def _read_in(self) -> None:
        if self._closing or not (lines := self._spill.next(self._batch_size)):
            return
        refused = await self._insert([record for record in lines if record is not None], again=True)
        self._spill.advance()
        self.dropped += refused + lines.count(None)
        _log.info("log_rows_read_in", rows=len(lines), left=self._spill.rows)

    async def _note_dropped(self) -> None:
        if not (lost := self.dropped - self._noted):
            return
        try:
            await self._log.note_dropped(lost, now=self._clock.wall())
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - rows go on all the same
            _log.warning("log_drops_not_noted", rows=lost, error=type(error).__name__)
        self._noted += lost

    async def _insert(self, rows: Sequence[RequestRecord], *, again: bool) -> int:
        """Write rows, but for those that the database never takes; returns how many these are.

        Retry a rejected batch in halves, so that one bad row does not reject the others.

        Raises:
            StorageUnavailable: it cannot take the others now; some may have been written.
        """
        if not rows:
            return 0
        try:
            await self._log.insert(rows, again=again)
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a driver says of a bad value
            if len(rows) > 1:
                half = len(rows) // 2
                return await self._insert(rows[:half], again=again) + await self._insert(rows[half:], again=again)
            _log.warning("log_row_refused", request_id=rows[0].id, error=type(error).__name__)
            return 1
        return 0

    def _report(self, error: str | None) -> None:
        """Log the first failure and the recovery, not every attempt."""
        if error is not None and self.last_error is None:
            _log.warning("log_database_unavailable", error=error, pending=self.pending)
            self._away(True)  # noqa: FBT003 - an answer
        elif error is None and self.last_error is not None:
            _log.info("log_database_available", dropped=self.dropped)
            self._away(False)  # noqa: FBT003 - an answer
        self.last_error = error
