"""Rows beyond memory wait in files, each written once, whoever is killed when."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.row_spill import RowSpill, spill_folder
from support.records import make_record


def rows_of(spill: RowSpill, most: int = 1000) -> list[RequestRecord | None]:
    """Read in everything."""
    found: list[RequestRecord | None] = []
    while lines := spill.next(most):
        found += lines
        spill.advance()
    return found


def files(folder: Path) -> list[Path]:
    """The files that are left."""
    return sorted(folder.glob("*")) if folder.exists() else []


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    """In their order, in any portions; the file goes with the last of them."""
    spill = RowSpill(tmp_path / "spill")
    rows = [make_record(number, error="größter\n🦙") for number in range(25)]
    assert all(spill.add(row) for row in rows)
    assert spill.rows == 25
    assert rows_of(spill, most=10) == rows
    assert (spill.rows, spill.waiting, files(tmp_path / "spill")) == (0, False, [])


def test_lines_of_the_release_before_are_read(tmp_path: Path) -> None:
    """What it did not know is as if nobody had told it."""
    row = make_record(1, user="ann", speaker="webui")
    older = {name: value for name, value in row.to_json().items() if name != "speaker"}
    (tmp_path / "left.jsonl").write_text(json.dumps(older) + "\n")
    assert rows_of(RowSpill(tmp_path)) == [replace(row, speaker=None)]


def test_no_file_is_made_before_it_is_needed(tmp_path: Path) -> None:
    """Most routers never have one."""
    spill = RowSpill(tmp_path / "spill")
    assert (spill.waiting, spill.next(10)) == (False, [])
    spill.close()
    assert not (tmp_path / "spill").exists()


def test_what_one_process_left_another_reads(tmp_path: Path) -> None:
    """After a stop, and after a kill that left half a line."""
    first = RowSpill(tmp_path)
    rows = [make_record(number) for number in range(3)]
    for row in rows:
        first.add(row)
    first.close()
    (path,) = files(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"id":"half')
    second = RowSpill(tmp_path)
    assert second.waiting
    assert rows_of(second) == [*rows, None]
    assert files(tmp_path) == []


def test_rows_that_were_read_but_not_written_stay(tmp_path: Path) -> None:
    """Only what was advanced over is done with; after a restart all of the file is read again."""
    first = RowSpill(tmp_path)
    rows = [make_record(number) for number in range(4)]
    for row in rows:
        first.add(row)
    assert first.next(2) == first.next(2) == rows[:2]
    assert first.next(1) == rows[:1]
    first.advance()
    assert first.next(2) == rows[1:3]
    first.close()
    assert rows_of(RowSpill(tmp_path)) == rows


def test_a_file_in_use_is_left_to_its_holder(tmp_path: Path) -> None:
    """Workers of one router share the folder."""
    first = RowSpill(tmp_path)
    first.add(make_record(1))
    second = RowSpill(tmp_path)
    assert second.next(10) == []
    assert rows_of(first) == [make_record(1)]


def test_rows_added_while_others_are_read_follow(tmp_path: Path) -> None:
    """The database may go away again."""
    spill = RowSpill(tmp_path)
    spill.add(make_record(1))
    assert spill.next(10) == [make_record(1)]
    spill.add(make_record(2))
    spill.advance()
    assert rows_of(spill) == [make_record(2)]


def test_the_file_has_a_bound(tmp_path: Path) -> None:
    """What is beyond it is not kept, and that is told."""
    spill = RowSpill(tmp_path, most_bytes=2_000)
    kept = sum(spill.add(make_record(number)) for number in range(100))
    assert 0 < kept < 20
    assert files(tmp_path)[0].stat().st_size <= 2_000
    assert len(rows_of(spill)) == kept


def test_a_folder_that_cannot_be_written_is_told_and_no_error(tmp_path: Path) -> None:
    """Requests go on."""
    (tmp_path / "spill").write_text("a file where the folder should be")
    assert not RowSpill(tmp_path / "spill").add(make_record(1))


def test_a_file_that_took_no_row_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a full disk: nothing waits in it, so nobody has to look again and again."""
    spill = RowSpill(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda *_: 0)
        assert not spill.add(make_record(1))
    assert (spill.next(10), spill.waiting, files(tmp_path)) == ([], False, [])


def test_nobody_else_can_read_the_rows(tmp_path: Path) -> None:
    """They say who asked for what."""
    spill = RowSpill(tmp_path / "spill")
    spill.add(make_record(1))
    spill.close()
    (path,) = files(tmp_path / "spill")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_every_database_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """Rows of one must not end in another; a password is no part of the name."""
    assert spill_folder(f"sqlite:///{tmp_path}/a.sqlite3", {}) == tmp_path / "a.sqlite3.spill"
    state = {"STATE_DIRECTORY": str(tmp_path)}
    one, other = (spill_folder(f"postgresql://u:p@host/{name}", state) for name in ("one", "other"))
    assert one.parent == other.parent == tmp_path
    assert one != other
    assert one == spill_folder("postgresql://u:changed@host/one", state)
