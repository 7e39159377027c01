"""Where log records go in a running router."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

import structlog

from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.system import Clock

__all__ = ["DatabaseSink"]

_FIRST_PAUSE = 0.1  # seconds
_LONGEST_PAUSE = 1.0  # seconds

_log = structlog.get_logger(__name__)


class DatabaseSink:
    """Takes records at once and writes them in batches, from one task.

    A row waits at most `flush_interval` seconds or until `batch_size` rows wait. While the database cannot take
    rows, they are kept for `patience` seconds each from the first attempt on that found them there, and at most
    `max_pending` in all; beyond that they are dropped and counted, and the count is written to the database once it
    answers. A row that the database never takes (a NUL in a text, for example) is dropped alone. `write` must be
    called on the event loop's thread.

    Args:
        log: the database's request log.
        clock: for the age of rows.
        max_pending: rows held in memory.
        flush_interval: seconds; what a killed process loses at most.
        batch_size: rows that end the wait early.
        max_batch: rows in one transaction.
        patience: seconds.
    """

    def __init__(
        self,
        log: RequestLog,
        *,
        clock: Clock,
        max_pending: int = 10_000,
        flush_interval: float = 0.15,
        batch_size: int = 500,
        max_batch: int = 500,
        patience: float = 5.0,
    ) -> None:
        self._log = log
        self._clock = clock
        self._room = max_pending
        self._flush_interval = flush_interval
        self._batch_size = batch_size
        self._max_batch = max_batch
        self._patience = patience
        self._queue: list[RequestRecord] = []
        self._gone = 0  # rows that have left the queue
        self._attempts: deque[tuple[float, int]] = deque()  # that failed: when, and rows taken by then
        self._arrived = asyncio.Event()
        self._filled = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._noted = 0
        self.dropped = 0
        """Rows lost since the start."""
        self.last_error: str | None = None
        """Why rows cannot be written at the moment; None while they can."""

    @property
    def pending(self) -> int:
        """Rows in memory."""
        return len(self._queue)

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self.last_error is None

    def start(self) -> None:
        """Begin to write; call it on a running event loop."""
        self._task = asyncio.create_task(self._run())

    def write(self, record: RequestRecord) -> None:
        """Take one record; never waits, never raises."""
        queue = self._queue
        waiting = len(queue)
        if waiting >= self._room:
            self.dropped += 1
            return
        queue.append(record)
        if not waiting:
            self._arrived.set()
        if waiting + 1 >= self._batch_size:
            self._filled.set()

    async def aclose(self, *, grace: float = 5.0) -> None:
        """Write what waits, for at most `grace` seconds; what is left is dropped and counted."""
        self._room = 0
        self._closing.set()
        self._arrived.set()
        self._filled.set()
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=grace)
            if not done:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._drop(len(self._queue))

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while await self._wait_for_work():
            if await self._flush():
                pause = _FIRST_PAUSE
                self._attempts.clear()
                continue
            self._drop_old()
            if self._closing.is_set() and not self._queue:
                return  # only a count is left to write, and it is not worth waiting for
            await self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            await asyncio.sleep(_FIRST_PAUSE)  # the grace of `aclose` bounds these attempts
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _wait_for_work(self) -> bool:
        """Wait for the next flush; False when closing and all is written."""
        if not self._queue and self.dropped == self._noted:
            if self._closing.is_set():
                return False
            await self._arrived.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._filled.wait(), self._flush_interval)
        return bool(self._queue) or self.dropped != self._noted

    async def _flush(self) -> bool:
        """Write the oldest rows; False if the database cannot take any now."""
        batch = self._queue[: self._max_batch]
        dropped = self.dropped
        try:
            await self._log.insert(batch, dropped=dropped - self._noted, now=self._clock.wall())
        except StorageUnavailable as error:
            self._report(str(error))
            return False
        except Exception:  # noqa: BLE001 - whatever a driver says of a bad value
            return await self._flush_each(batch)
        self._noted = dropped
        self._forget(len(batch))
        self._report(None)
        return True

    async def _flush_each(self, batch: list[RequestRecord]) -> bool:
        """As `_flush`, row by row: one is at fault, and no other may be lost with it."""
        for record in batch:
            try:
                await self._log.insert([record])
            except StorageUnavailable as error:
                self._report(str(error))
                return False
            except Exception as error:  # noqa: BLE001 - as above
                self.dropped += 1
                _log.warning("log_row_refused", request_id=record.id, error=type(error).__name__)
            self._forget(1)
        return True

    def _forget(self, count: int) -> None:
        del self._queue[:count]
        self._gone += count
        self._rearm()

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._forget(count)

    def _drop_old(self) -> None:
        now, old = self._clock.monotonic(), 0
        self._attempts.append((now, self._gone + len(self._queue)))
        while self._attempts and self._attempts[0][0] <= now - self._patience:
            old = self._attempts.popleft()[1]
        self._drop(max(0, old - self._gone))

    def _rearm(self) -> None:
        if self._closing.is_set():
            return
        if not self._queue:
            self._arrived.clear()
        if len(self._queue) < self._batch_size:
            self._filled.clear()

    def _report(self, error: str | None) -> None:
        """Log the first failure and the recovery, not every attempt."""
        if error is not None and self.last_error is None:
            _log.warning("log_database_unavailable", error=error, pending=self.pending)
        elif error is None and self.last_error is not None:
            _log.info("log_database_available", dropped=self.dropped)
        self.last_error = error
