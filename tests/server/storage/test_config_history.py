"""Configs that were taken up, in a folder of their own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ollama_router_core.errors import ConfigError
from ollama_router_server.storage.config_history import ConfigHistory


def test_each_text_is_a_version_and_the_same_again_is_none(tmp_path: Path) -> None:
    """Numbered from 1, with the moment; a restart adds nothing."""
    history = ConfigHistory(tmp_path / "versions")
    history.keep("a: 1\n", 100.7)
    assert not history.keep("a: 1\n", 200.0)
    history.keep("a: 2\n", 300.0)
    kept = history.kept()
    assert [(version.number, version.at) for version in kept.versions] == [(1, 100), (2, 300)]
    assert kept.text(1) == "a: 1\n"


def test_files_are_their_owner_s_alone_and_without_secrets(tmp_path: Path) -> None:
    """Folder 0700, file 0600, `***` for a password."""
    history = ConfigHistory(tmp_path / "versions")
    assert history.keep("database_url: postgresql://r:hunter2@db/r\n", 1.0)
    (file,) = history.folder.iterdir()
    assert stat.S_IMODE(history.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "hunter2" not in file.read_text()


def test_the_oldest_go(tmp_path: Path) -> None:
    """No more than so many are kept, and numbers are not given twice."""
    history = ConfigHistory(tmp_path, most=3)
    for number in range(5):
        history.keep(f"a: {number}\n", number)
    assert [version.number for version in history.kept().versions] == [3, 4, 5]
    with pytest.raises(ConfigError, match="3 to 5 are kept"):
        history.kept().text(1)


def test_a_version_that_goes_while_it_is_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The router removes the oldest whenever it takes up another config."""
    history = ConfigHistory(tmp_path)
    history.keep("a: 1\n", 1.0)
    history.keep("a: 2\n", 2.0)
    files = history._files()
    monkeypatch.setattr(history, "_files", lambda: files)
    files[0][2].unlink()
    assert [version.number for version in history.kept().versions] == [2]
