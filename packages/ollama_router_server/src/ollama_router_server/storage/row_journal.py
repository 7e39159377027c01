"""A copy of the unwritten rows that survives `kill -9`: in files, whose pages belong to the kernel.

The two files of a process alternate: one takes new rows while the rows of the other are written. Any other process that
writes to the same database replays the files of a killed process, as it does spilled rows (`row_spill`).
"""

from __future__ import annotations

from pathlib import Path

import structlog

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.row_spill import RowFile, new_file

__all__ = ["RowJournal"]

_log = structlog.get_logger(__name__)


class _Turn:
    """A file, created with its first row, and the number of rows due in it, including any that it could not store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: RowFile | None = None
        self._fails = False
        self.rows = 0

    def append(self, record: RequestRecord) -> None:
        """Append a row; raise `OSError`, or `UnicodeError` for a row that every database rejects.

        After a failure, do not retry until the pending rows are written.
        """
        self.rows += 1
        if self._fails:
            return
        try:
            self._file = self._file or new_file(self._folder, "journal")
            self._file.append(record)
        except OSError:
            self._fails = True
            raise

    def clear(self) -> None:
        self._fails = False
        if self._file is not None:
            self._file.clear()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class RowJournal:
    """The unwritten rows of one process, oldest first; each call takes microseconds.

    Args:
        folder: where other processes look for left files; created with the first row.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._older, self._newer = _Turn(folder), _Turn(folder)
        self._failed = False

    def add(self, record: RequestRecord) -> None:
        """Store a row until it is written; on failure the row is in memory only. Never raises."""
        try:
            self._newer.append(record)
        except UnicodeError:
            pass
        except OSError as error:
            if not self._failed:
                _log.warning("log_journal_unavailable", error=error.strerror, path=str(self._folder))
            self._failed = True

    def written(self, count: int) -> None:
        """Discard the oldest `count` rows, which are written."""
        of_older = min(count, self._older.rows)
        self._older.rows -= of_older
        self._newer.rows -= count - of_older
        if not self._older.rows:
            self._older.clear()
            self._older, self._newer = self._newer, self._older
            if not self._older.rows:
                self._older.clear()

    def close(self) -> None:
        """Close the files; those with rows stay for the next process."""
        for turn in (self._older, self._newer):
            turn.close()
