"""The key of token proofs: where it is kept, who may read it, what happens without it."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ollama_router_core.errors import ConfigError
from ollama_router_server.storage.token_key import find_token_prover, make_token_prover, token_key_path


def test_it_is_beside_the_sqlite_file_or_where_it_is_told(tmp_path: Path) -> None:
    """PostgreSQL has no folder of ours: the service's state directory, else the user's data directory."""
    url = f"sqlite:///{tmp_path}/router.sqlite3"
    postgres = "postgresql://orouter@localhost/orouter"
    assert token_key_path(url, {}) == tmp_path / "router.sqlite3.token-key"
    assert token_key_path(url, {"OROUTER_TOKEN_KEY_FILE": "/run/key"}) == Path("/run/key")
    assert token_key_path(postgres, {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}) == Path("/var/lib/a/token-key")
    assert token_key_path(postgres, {}).name == "token-key"


def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """Processes that start together have one key."""
    path = tmp_path / "new" / "key"
    with ThreadPoolExecutor(8) as threads:
        provers = list(threads.map(make_token_prover, [path] * 8))
    assert len({prover and prover.key_id for prover in provers}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["key"]


def test_a_command_only_reads_it(tmp_path: Path) -> None:
    """A key that root made would be closed to the service."""
    assert find_token_prover(tmp_path / "key") is None
    made = make_token_prover(tmp_path / "key")
    found = find_token_prover(tmp_path / "key")
    assert made is not None
    assert found is not None
    assert found.key_id == made.key_id


def test_without_a_place_for_it_there_is_none(tmp_path: Path) -> None:
    """The router still starts: then bcrypt is asked after each restart."""
    (tmp_path / "file").touch()
    assert make_token_prover(tmp_path / "file" / "key") is None


@pytest.mark.parametrize("content", ["", "abc", "0" * 62, "\u00e9" * 64])
def test_another_content_is_a_problem(tmp_path: Path, content: str) -> None:
    """Said with the path and without the content."""
    path = tmp_path / "key"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="64 hex digits"):
        make_token_prover(path)
