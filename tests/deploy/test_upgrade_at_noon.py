"""docs/how-to/deploy.md's upgrade of routers on one PostgreSQL, with this program and one that has a revision more."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import SimulatorThread
from support.asking import CHAT, MODEL
from support.next_releases import add_revisions
from support.orouter import Orouter
from support.postgresql import find_binaries, running_cluster

ROOT = Path(__file__).parents[2]
MIGRATIONS = "packages/ollama_router_server/src/ollama_router_server/storage/migrations"
PACKAGES = ("ollama_router_core", "ollama_router_server", "ollama_router_cli")


def with_a_revision_more(folder: Path) -> Path:
    """A copy of this program that also has a revision which adds to the log, and a table."""
    for name in PACKAGES:
        shutil.copytree(ROOT / "packages" / name / "src", folder / "packages" / name / "src")
    add_revisions(folder / MIGRATIONS, "colours_expand")
    return folder


def machine(folder: Path, program: Path, database: str, port: int) -> Orouter:
    """A router's machine on which this program is installed."""
    folder.mkdir()
    path = os.pathsep.join(str(program / "packages" / name / "src") for name in PACKAGES)
    found = Orouter(home=folder, variables={"PYTHONPATH": path, "OROUTER_DATABASE_URL": database})
    found.config.write_text(json.dumps({"servers": {"a": {"host": "127.0.0.1", "port": port}}}))
    return found


def ask(url: str, token: str) -> int:
    """The status of an answer."""
    return httpx.post(
        f"{url}/api/chat", headers={"authorization": f"Bearer {token}"}, json=CHAT, timeout=60, trust_env=False
    ).status_code


def done(router: Orouter, *words: str) -> None:
    """Run a command that has to succeed."""
    result = router.run(*words)
    assert result.returncode == 0, result.stderr


@pytest.mark.timeout(300)
@pytest.mark.skipif(find_binaries() is None, reason="PostgreSQL is not installed")
def test_the_release_before_serves_while_the_new_one_comes_and_goes(tmp_path: Path) -> None:
    """Both answer on the upgraded database and each sees the other's rows; the old one goes on after a downgrade.

    It takes six commands and three routers, some ten seconds: only two programs show that two programs agree.
    """
    binaries = find_binaries()
    assert binaries is not None
    with running_cluster(binaries) as cluster, SimulatorThread(models=[MODEL]) as simulator:
        old = machine(tmp_path / "old", ROOT, cluster.url, simulator.port)
        new = machine(tmp_path / "new", with_a_revision_more(tmp_path / "next"), cluster.url, simulator.port)
        done(old, "db", "upgrade")
        alice = old.json("users", "create", "alice")["token"]
        with old.serve("--port", "0") as first:
            assert ask(first, alice) == 200
            refused = new.run("serve", "--port", "0")
            assert "run: orouter db upgrade" in refused.stderr
            done(new, "db", "upgrade")
            with new.serve("--port", "0") as second:
                bob = new.json("users", "create", "bob")["token"]
                assert {ask(url, token) for url in (first, second) for token in (alice, bob)} == {200}
            assert len(new.json("logs", "list")) == 5
            done(new, "db", "downgrade", "--yes")
            assert ask(first, bob) == 200
        with old.serve("--port", "0") as again:
            assert ask(again, alice) == 200
        assert len(old.json("logs", "list")) == 7
