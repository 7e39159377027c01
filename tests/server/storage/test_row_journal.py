"""Rows in memory are in files, too, until they are written: whoever is killed when."""

from __future__ import annotations

import fcntl
import os
import stat
from errno import EIO, ENOLCK
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.row_journal import RowJournal
from ollama_router_server.storage.row_spill import RowSpill
from support.records import make_record


def left(folder: Path, journal: RowJournal) -> list[RequestRecord | None]:
    """What the next process would find if this one was killed now; the journal is of no use any more."""
    for turn in (journal._older, journal._newer):
        if turn._file is not None:
            turn._file._file.close()
    spill, found = RowSpill(folder), []
    while lines := spill.next(1000):
        found += lines
        spill.advance()
    assert list(folder.iterdir()) == []
    return found


def test_rows_that_are_not_written_are_left(tmp_path: Path) -> None:
    """All of them, each once; files of which every row was read in go."""
    journal = RowJournal(tmp_path)
    rows = [make_record(number, speaker="webui", error="größter\n🦙") for number in range(5)]
    for row in rows:
        journal.add(row)
    assert left(tmp_path, journal) == rows


@pytest.mark.parametrize("written", range(12))
def test_what_is_written_is_forgotten_soon(tmp_path: Path, written: int) -> None:
    """While rows come all the time: what is not written is kept, and of the others at most those of two batches."""
    journal, rows = RowJournal(tmp_path), [make_record(number) for number in range(12)]
    done = 0
    for number, row in enumerate(rows):
        journal.add(row)
        if number % 3 == 2 and done + 2 <= written:
            journal.written(2)
            done += 2
    found = sorted(left(tmp_path, journal), key=rows.index)
    assert found == rows[len(rows) - len(found) :]
    assert len(rows) - done <= len(found) <= len(rows) - done + 6


def test_an_orderly_end_leaves_nothing(tmp_path: Path) -> None:
    """The files go."""
    journal = RowJournal(tmp_path)
    for number in range(3):
        journal.add(make_record(number))
    journal.written(3)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_a_process_that_runs_are_its_own(tmp_path: Path) -> None:
    """Workers of one router share the folder; nobody else on the machine may read who asked for what."""
    journal = RowJournal(tmp_path)
    journal.add(make_record(1))
    assert RowSpill(tmp_path).next(10) == []
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    journal.close()


def test_a_disk_that_is_full_is_told_once_and_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are in memory alone then, and in files again when there is room."""
    journal, pwrite = RowJournal(tmp_path), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with capture_logs() as told:
        for number in range(3):
            journal.add(make_record(number))
    assert [line["event"] for line in told] == ["log_journal_unavailable"]
    monkeypatch.setattr(os, "pwrite", pwrite)
    journal.written(2)
    journal.add(make_record(3))
    journal.add(make_record(4, error="\ud800"))
    assert left(tmp_path, journal) == [make_record(3)]


def test_a_file_system_without_locks_costs_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt for each batch of rows, which leaves neither a file nor a descriptor."""

    def refused(_descriptor: int, _how: int) -> None:
        raise OSError(ENOLCK, os.strerror(ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    journal, open_before = RowJournal(tmp_path), len([*Path("/dev/fd").iterdir()])
    for number in range(50):
        journal.add(make_record(number))
    assert list(tmp_path.iterdir()) == []
    assert len([*Path("/dev/fd").iterdir()]) == open_before


def test_a_file_that_cannot_be_cut_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left in it are rows that the database has, which whoever reads it in knows by their ids."""

    def broken(_descriptor: int, _size: int) -> None:
        raise OSError(EIO, os.strerror(EIO))

    journal, rows = RowJournal(tmp_path), [make_record(number) for number in range(3)]
    journal.add(rows[0])
    monkeypatch.setattr(os, "ftruncate", broken)
    journal.written(1)
    for row in rows[1:]:
        journal.add(row)
    monkeypatch.undo()
    assert set(rows[1:]) <= {row for row in left(tmp_path, journal) if row is not None}
