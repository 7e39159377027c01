"""Rows that neither the database nor memory can take: files of JSON lines, replayed when the database is back.

Each process appends to its own file and holds a lock on it. An unlocked file belongs to an ended process: any process
that finds it replays it, then deletes it. The kernel releases the lock when the process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from errno import EFBIG, ENOSPC
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import msgspec
import structlog
from sqlalchemy import make_url

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.data_folders import state_folder
from ollama_router_server.storage.database import sqlite_path
from ollama_router_server.system import random_bytes

__all__ = ["RowFile", "RowSpill", "new_file", "spill_folder"]

_MOST_BYTES = 256 * 1024 * 1024  # about half a million rows

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RequestRecord).decode
_KINDS = ("*.jsonl", "*.journal")
"""Files that an ended process may have left: spilled rows, and the rows of its memory (`row_journal`)."""


def spill_folder(database_url: str, environment: Mapping[str, str]) -> Path:
    """Return the folder next to the SQLite file, else one in the state or data directory, named by the database URL.

    Raises:
        ConfigError: the URL's database is not supported.
    """
    if (database := sqlite_path(database_url)) is not None:
        return database.with_name(f"{database.name}.spill")
    address = make_url(database_url).render_as_string(hide_password=True)
    name = f"spill-{blake2b(address.encode(), digest_size=8).hexdigest()}"
    return state_folder(environment) / name


class RowFile:
    """A file that this process has locked, and the position up to which it was replayed."""

    def __init__(self, path: Path, descriptor: int, most_bytes: int = _MOST_BYTES) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self.size = os.fstat(descriptor).st_size
        self.rows = 0
        self._file = open(descriptor, "rb")  # noqa: SIM115 - closed with the spill
        self._read = self._seen = self._rows_seen = 0

    def append(self, record: RequestRecord) -> None:
        """Append a row, entirely or not at all.

        Raises:
            OSError: the row cannot be written, or the file would exceed `most_bytes`.
            UnicodeError: every database would reject it.
        """
        line = _encode(record) + b"\n"
        if self.size + len(line) > self._most_bytes:
            raise OSError(EFBIG, os.strerror(EFBIG))
        if os.pwrite(self._file.fileno(), line, self.size) < len(line):
            os.ftruncate(self._file.fileno(), self.size)
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        self.size += len(line)
        self.rows += 1

    def lines(self, most: int) -> list[RequestRecord | None]:
        """Return the rows of the next lines, None for an invalid line, such as one that a kill truncated."""
        self._file.seek(self._read)
        rows = [_row(line) for line in islice(self._file, most)]
        self._seen, self._rows_seen = self._file.tell(), len(rows)
        return rows

    def advance(self) -> None:
        """Mark the lines returned last as replayed."""
        self._read = self._seen
        self.rows -= self._rows_seen
        self._rows_seen = 0

    @property
    def done(self) -> bool:
        """Whether all lines are replayed."""
        return self._read >= self.size

    def clear(self) -> None:
        """Discard every row; if the file cannot be truncated, a replay skips the rows by their ids."""
        size, self.size, self.rows, self._read = self.size, 0, 0, 0
        if size:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), 0)

    def close(self) -> None:
        """Close the file; delete it if it is fully replayed."""
        if self.done:
            with suppress(OSError):
                self.path.unlink()
        self._file.close()


class RowSpill:
    """The files of one folder, as one process sees them.

    Args:
        folder: created with the first row.
        most_bytes: the limit of this process's own file.
    """

    def __init__(self, folder: Path, *, most_bytes: int = _MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._own: RowFile | None = None
        self._reading: RowFile | None = None
        self._others: list[Path] = []
        self._failed = False
        self.look()

    @property
    def rows(self) -> int:
        """Rows that this process has spilled and not replayed yet."""
        return 0 if self._own is None else self._own.rows

    def add(self, record: RequestRecord) -> bool:
        """Store a row; return False on failure. Never raises."""
        try:
            self._own = self._own or self._new_file()
            self._own.append(record)
        except UnicodeError:
            return False
        except OSError as error:
            if not self._failed:
                _log.warning("log_spill_unavailable", error=error.strerror, path=str(self._folder))
            self._failed = True
            return False
        self._failed = False
        return True

    def look(self) -> None:
        """Look for files that ended processes left; `next` then tries to lock each."""
        if self._folder.is_dir():
            self._others = [path for kind in _KINDS for path in self._folder.glob(kind)]

    @property
    def waiting(self) -> bool:
        """Whether there may be rows to replay."""
        return self._own is not None or self._reading is not None or bool(self._others)

    def next(self, most: int) -> list[RequestRecord | None]:
        """Return up to `most` rows to replay, None for an invalid line; empty at the end."""
        while self._reading is None and self._others:
            self._reading = _locked(self._others.pop())
            self._drop_if_done()
        self._reading = self._reading or self._own
        self._drop_if_done()
        return [] if self._reading is None else self._reading.lines(most)

    def advance(self) -> None:
        """Mark the returned rows as replayed; delete a file that has no more."""
        if self._reading is not None:
            self._reading.advance()
            self._drop_if_done()

    def close(self) -> None:
        """Close the files; rows that were not replayed stay for the next start."""
        for file in {self._own, self._reading}:
            if file is not None:
                file.close()
        self._own = self._reading = None

    def _drop_if_done(self) -> None:
        reading = self._reading
        if reading is None or not reading.done:
            return
        reading.close()
        self._own = None if reading is self._own else self._own
        self._reading = None

    def _new_file(self) -> RowFile:
        file = new_file(self._folder, "jsonl", most_bytes=self._most_bytes)
        _log.warning("log_rows_spill", path=str(file.path))
        return file


def new_file(folder: Path, kind: str, *, most_bytes: int = _MOST_BYTES) -> RowFile:
    """Create a locked file of rows. It gets its final name once locked, so that no process takes it for a left one.

    Raises:
        OSError: it cannot be created or locked.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{random_bytes(8).hex()}.{kind}"
    unnamed = path.with_suffix(".new")
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unnamed.rename(path)
    except OSError:  # some file systems have no locks
        os.close(descriptor)
        unnamed.unlink(missing_ok=True)
        raise
    return RowFile(path, descriptor, most_bytes)


def _row(line: bytes) -> RequestRecord | None:
    try:
        return _decode(line)
    except msgspec.MsgspecError:
        return None


def _locked(path: Path) -> RowFile | None:
    """Open and lock a file; None if a process holds it, it is gone, or it is not readable."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return RowFile(path, descriptor)
    except OSError:
        pass
    os.close(descriptor)
    return None
