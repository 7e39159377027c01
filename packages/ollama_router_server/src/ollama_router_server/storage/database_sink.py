"""The sink of a running router: writes records to the database in batches."""

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

_PAUSE = 0.25  # seconds between attempts while the database is unavailable
_LOOKS = 1.0  # seconds between scans for files left by ended processes

_log = structlog.get_logger(__name__)


class DatabaseSink:
    """Buffer records and write them in batches, from one task.

    While the database is unavailable, up to `max_pending` records wait in memory; the excess, and what is left at
    shutdown, goes to the spill. Rows that the spill cannot store are dropped and counted; the count is written once
    the database answers. A row that the database always rejects (a NUL in a text, for example) is dropped alone.

    Args:
        log: the database's request log.
        clock: provides the time of the drop count.
        spill: stores the excess until the database is back; also reads the files of ended processes.
        journal: a second copy of the rows in memory, in case this process is killed.
        away: called with True when the database becomes unavailable, with False when it is back.
        max_pending: the most rows in memory.
        flush_interval: seconds that a row waits for others.
        batch_size: rows that end the wait early, and the most rows per transaction.
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
        """Why rows cannot be written now; None while they can."""

    @property
    def pending(self) -> int:
        """Rows not written yet, in memory and in the spill."""
        return len(self._queue) + self._spill.rows

    def holds(self, user: str | None) -> bool:
        """Return whether unwritten rows of this user (of any user if None) are in memory."""
        return bool(self._queue) if user is None else any(row.user == user for row in self._queue)

    def find(self, request_id: str) -> RequestRecord | None:
        """Find a row in memory by its request's id."""
        return next((row for row in self._queue if row.id == request_id), None)

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self.last_error is None

    def start(self) -> None:
        """Start writing; needs a running event loop."""
        self._task = asyncio.create_task(self._run())

    def write(self, record: RequestRecord) -> None:
        """Buffer one record, on the event loop's thread; never blocks, never raises."""
        if self._closing or len(self._queue) >= self._max_pending:
            self.dropped += not self._spill.add(record)
            return
        self._queue.append(record)
        self._journal.add(record)
        if len(self._queue) in {1, self._batch_size}:
            self._changed.set()

    async def aclose(self, *, grace: float = 5.0) -> None:
        """Write pending rows for at most `grace` seconds; the rest is spilled, or stays in the journal.

        A transaction may still be committed, so close the spill and the journal after the database.
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
        self._queue.clear()  # the journal has the rows that the spill refused; the next start replays them

    async def _run(self) -> None:
        while await self._work():
            if not await self._write_some():
                if self._closing and not self._queue:
                    return  # only the drop count is left to write, not worth a delay
                await asyncio.sleep(_PAUSE)

    async def _work(self) -> bool:
        """Wait until there may be rows to write; return False when closing and all are written."""
        await self._until(lambda: self._closing or self._unwritten, _LOOKS)
        await self._until(lambda: self._closing or len(self._queue) >= self._batch_size, self._flush_interval)
        if self._clock.monotonic() >= self._look_at and not self._closing:
            self._look_at = self._clock.monotonic() + _LOOKS
            self._spill.look()  # replay the rows of ended processes without a restart
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
        """Write the oldest rows, then some spilled ones; return False if the database is unavailable."""
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
        except Exception as error:  # noqa: BLE001 - rows are still written
            _log.warning("log_drops_not_noted", rows=lost, error=type(error).__name__)
        self._noted += lost

    async def _insert(self, rows: Sequence[RequestRecord], *, again: bool) -> int:
        """Write rows; return how many the database rejects for good.

        Retry a rejected batch in halves, so that a bad row does not block the others.

        Raises:
            StorageUnavailable: the database cannot write now; some rows may have been written.
        """
        if not rows:
            return 0
        try:
            await self._log.insert(rows, again=again)
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - drivers raise various errors for a bad value
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
