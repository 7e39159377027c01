"""The request log as JSON lines in rotated files, in addition to the database.

Each worker has its own files. A batch is one write: a killed process leaves no partial line, and loses at most what it
received within `flush_interval`. Lines that cannot be written are dropped and counted; the database has the records.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path

import msgspec
import structlog

from ollama_router_core.config.settings import RequestLogSettings, parse_size
from ollama_router_core.errors import ConfigError
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.records.sinks import LogSink

__all__ = ["FILE_NAME", "LogFiles", "Several", "open_log_files"]

FILE_NAME = "requests.jsonl"

_LEAST_SIZE = 4096  # bytes; a smaller file would be rotated every few lines

_log = structlog.get_logger(__name__)


class LogFiles:
    """A sink that writes records as lines, from one task. Call `write` on the event loop's thread.

    Args:
        path: the current file; older ones are `path.1` to `path.N`, the newest first.
        max_size: bytes at which a file is rotated; a single longer line gets a longer file.
        max_files: files to keep, the current one included.
        max_pending: lines held in memory.
        flush_interval: seconds.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(
        self, path: Path, *, max_size: int, max_files: int, max_pending: int = 10_000, flush_interval: float = 0.15
    ) -> None:
        self._path = path
        self._max_size = max(_LEAST_SIZE, max_size)
        self._max_files = max_files
        self._max_pending = max_pending
        self._flush_interval = flush_interval
        self._queue: deque[RequestRecord] = deque()
        self._closing = asyncio.Event()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed = False
        self._size = 0
        self._file: FileIO | None = None
        self._open()
        self.dropped = 0
        """Lines dropped since the start."""

    def start(self) -> None:
        """Start writing; call it on a running event loop."""
        self._task = asyncio.create_task(self._run(), name="log files")

    def write(self, record: RequestRecord) -> None:
        """Accept one record; never blocks, never raises."""
        if len(self._queue) >= self._max_pending or self._closing.is_set():
            self.dropped += 1
            return
        self._queue.append(record)
        if len(self._queue) == 1:
            self._arrived.set()

    async def aclose(self) -> None:
        """Write pending lines and close the file."""
        self._closing.set()
        self._arrived.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _run(self) -> None:
        while self._queue or not self._closing.is_set():
            await self._arrived.wait()
            if not self._closing.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), self._flush_interval)
            records = list(self._queue)
            self._queue.clear()
            if not self._closing.is_set():
                self._arrived.clear()
            await self._write(records)

    async def _write(self, records: Sequence[RequestRecord]) -> None:
        try:
            await asyncio.to_thread(self._append, records)
        except (OSError, ValueError) as error:
            self.dropped += len(records)
            if not self._failed:
                _log.warning("log_files_unavailable", error=str(error), path=str(self._path))
            self._failed = True
        else:
            if self._failed:
                _log.info("log_files_available", dropped=self.dropped)
            self._failed = False

    def _append(self, records: Sequence[RequestRecord]) -> None:
        if self._file is None or not self._path.exists():
            self._open()
        part: list[bytes] = []
        for record in records:
            line = msgspec.json.encode(record) + b"\n"
            if self._size and self._size + len(line) > self._max_size:
                self._put(part)
                part = []
                self._rotate()
            part.append(line)
            self._size += len(line)
        self._put(part)

    def _put(self, lines: Sequence[bytes]) -> None:
        if lines and self._file is not None:
            self._file.write(b"".join(lines))

    def _open(self) -> None:
        """Open the current file for appending, readable by its owner only."""
        self._close()
        self._file = FileIO(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "a")
        self._size = self._path.stat().st_size

    def _rotate(self) -> None:
        """Rename from the oldest to the newest, so that an interruption loses nothing."""
        for number in range(self._max_files - 1, 0, -1):
            source = self._path if number == 1 else self._numbered(number - 1)
            with suppress(FileNotFoundError):
                source.replace(self._numbered(number))
        if self._max_files == 1:
            self._path.unlink(missing_ok=True)
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Several:
    """A sink that passes each record to several others."""

    def __init__(self, *sinks: LogSink) -> None:
        self._sinks = sinks

    def write(self, record: RequestRecord) -> None:
        """Accept one record."""
        for sink in self._sinks:
            sink.write(record)


def open_log_files(settings: RequestLogSettings, *, worker: int | None) -> LogFiles | None:
    """Open the files of the settings, or return None; one of several workers writes `requests.N.jsonl`.

    Raises:
        ConfigError: the directory cannot be created or written.
    """
    if settings.directory is None:
        return None
    name = FILE_NAME if worker is None else f"requests.{worker}.jsonl"
    directory = Path(settings.directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return LogFiles(directory / name, max_size=parse_size(settings.max_size), max_files=settings.max_files)
    except OSError as error:
        raise ConfigError(f"request_log.directory: cannot write to {directory}: {error.strerror}") from error
