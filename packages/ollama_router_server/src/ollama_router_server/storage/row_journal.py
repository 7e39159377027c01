"""Rows that wait in memory, also kept where `kill -9` leaves them: in files, whose pages are the kernel's.

The two files of a process take turns: one takes what comes while the rows of the other one are written.
What a process that was killed has left is read in like spilled rows, by any other that writes to the same database
(`row_spill`).
"""

from __future__ import annotations

from pathlib import Path

import structlog

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.row_spill import RowFile, new_file

__all__ = ["RowJournal"]

_log = structlog.get_logger(__name__)


class _Turn:
    """A file, made with its first row, and how many rows it should have, whether or not it could take them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: RowFile | None = None
        self._fails = False
        self.rows = 0

    def append(self, record: RequestRecord) -> None:
        """Append a row; raises `OSError`, and `UnicodeError` for a row that no database takes.

        A file that failed is not tried again until its rows are written.
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
    """The rows of one process that are not in the database yet, oldest first; each call takes microseconds.

    Args:
        folder: where another process looks for files that were left; made with the first row.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._older, self._newer = _Turn(folder), _Turn(folder)
        self._failed = False

    def add(self, record: RequestRecord) -> None:
        """Keep a row until it is written; where that cannot be done memory alone has it. Never raises."""
        try:
            self._newer.append(record)
        except UnicodeError:
            pass
        except OSError as error:
            if not self._failed:
                _log.warning("log_journal_unavailable", error=error.strerror, path=str(self._folder))
            self._failed = True

    def written(self, count: int) -> None:
        """Note that the oldest `count` rows are done with."""
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
