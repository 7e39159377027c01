"""The commands of docs/how-to/backup-and-restore.md, typed as they stand there; only the places are others."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import psycopg
import pytest

from ollama_router_core.testing import SimulatorThread
from support.orouter import Orouter
from support.postgresql import find_binaries, running_cluster
from support.waiting import wait_until
from support.workers import served

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "backup-and-restore.md").read_text(encoding="utf-8")
MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "stream": False, "messages": [{"role": "user", "content": "Hello"}]}


def block_with(words: str, places: dict[str, str]) -> str:
    """The code block with these words, with other places in it."""
    found = next(block for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) if words in block)
    for place, instead in places.items():
        assert place in found
        found = found.replace(place, instead)
    return found


def words_of(command: str, backup: Path) -> list[str]:
    """What follows `orouter` in the line that begins with a command, with another place for the backup."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(command))
    assert "/var/backups/router.sqlite3" in line
    return line.replace("/var/backups/router.sqlite3", str(backup)).split()[1:]


def shell(script: str, folder: Path, *, path: str = "") -> None:
    """Type it into a shell."""
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": f"{path}:/usr/bin:/bin".lstrip(":")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_running_routers_database_is_backed_up_and_restored(tmp_path):
    """Users, tokens and log of the moment of the backup are there, in a router on another database."""
    backup = tmp_path / "backup.sqlite3"
    with (
        SimulatorThread(models=[MODEL]) as simulator,
        served(tmp_path, {"a": {"host": "127.0.0.1", "port": simulator.port}}) as router,
    ):
        with router.client() as client:
            assert client.post("/api/chat", json=CHAT).status_code == 200
        wait_until(lambda: len(router.orouter.json("logs", "list")) == 1, "the row")
        saved = router.orouter.run(*words_of("orouter db backup", backup))
        assert saved.returncode == 0, saved.stderr
    restored = Orouter(home=tmp_path, variables={"OROUTER_DATABASE_URL": f"sqlite:///{tmp_path}/other.sqlite3"})
    back = restored.run(*words_of("orouter db restore", backup))
    assert back.returncode == 0, back.stderr
    assert len(restored.json("logs", "list")) == 1
    with restored.serve("--port", "0") as url:
        headers = {"authorization": f"Bearer {router.token}"}
        assert httpx.get(f"{url}/api/version", headers=headers, trust_env=False).status_code in {200, 503}
        assert httpx.get(f"{url}/api/version", trust_env=False).status_code == 401


def test_postgresql_is_dumped_and_restored(tmp_path):
    """Into another database, which needs no upgrade."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    with running_cluster(binaries) as cluster:
        server = cluster.url
        old, new = (server.replace("/postgres?", f"/{name}?") for name in ("live", "restored"))
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("CREATE DATABASE live")
            connection.execute("CREATE DATABASE restored")
        orouter = Orouter(home=tmp_path, variables={"OROUTER_DATABASE_URL": old})
        orouter.config.write_text("servers: {a: {host: h}}\n")
        assert orouter.run("db", "upgrade").returncode == 0
        orouter.json("users", "create", "alice")
        shell(block_with("pg_dump", {"DATABASE": old, "OTHER": new}), tmp_path, path=str(binaries))
        restored = Orouter(home=tmp_path, variables={"OROUTER_DATABASE_URL": new})
        assert restored.run("db", "check").returncode == 0
        assert [user["name"] for user in restored.json("users", "list")] == ["alice"]
