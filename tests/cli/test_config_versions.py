"""`orouter config history`, `diff` and `rollback`."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from ollama_router_cli.sources.settings_source import FILE_NAME
from ollama_router_server.storage.config_history import config_history
from ollama_router_server.storage.config_versions import ConfigVersionStore
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.upgrade import upgrade_database
from support.postgresql import find_binaries, running_cluster

ONE = "servers: {a: {host: one}}\ndatabase_url: postgresql://r:hunter2@db/r\n"
TWO = "servers: {a: {host: two, priority: 3}}\ndatabase_url: postgresql://r:hunter2@db/r\n"


@pytest.fixture
def versions(cli, write_config):
    """A file whose two versions a router took up."""
    path = write_config(TWO)
    kept = config_history(path)
    kept.keep(ONE, 1_000_000.0)
    kept.keep(TWO, 2_000_000.0)
    return path


def test_history_tells_what_changed(cli, versions):
    """By setting, the newest first; never a value."""
    rows = cli("config", "history", "--json").json()["versions"]
    assert [(row["version"], row["changed"]) for row in rows] == [
        (2, ["servers.a.host", "servers.a.priority"]),
        (1, None),
    ]
    shown = cli("config", "history")
    assert "servers.a.host, servers.a.priority" in shown.out
    assert "hunter2" not in shown.out


def test_versions_are_compared_without_secrets(cli, versions):
    """With each other and with the file, whose password differs and is not shown."""
    assert "+servers: {a: {host: two, priority: 3}}" in cli("config", "diff", "1", "2").out
    versions.write_text(TWO.replace("hunter2", "hunter3").replace("two", "three"))
    told = cli("config", "diff").out
    assert "-servers: {a: {host: two, priority: 3}}" in told
    assert "+servers: {a: {host: three, priority: 3}}" in told
    assert "hunter" not in told


def test_a_version_is_written_back_with_the_secrets_of_now(cli, versions):
    """In one step, with the file's rights; what it was stays beside it, even one that nothing could read."""
    broken = "servers: {a: {host: two, priority: high}}\ndatabase_url: postgresql://r:hunter2@db/r\n"
    versions.write_text(broken)
    versions.chmod(0o640)
    assert cli("config", "rollback", "1", stdin="no\n").code == 1
    assert versions.read_text() == broken
    done = cli("config", "rollback", "1", "--yes")
    assert done.code == 0, done.err
    assert "host: one" in versions.read_text()
    assert "r:hunter2@db" in versions.read_text()
    assert versions.stat().st_mode & 0o777 == 0o640
    assert versions.with_name(f"{FILE_NAME}.before-rollback").read_text() == broken


def test_a_version_that_would_be_refused_is_not_written(cli, versions):
    """Or one whose secret is gone; the file stays."""
    config_history(versions).keep("servers: {a: {host: three, port: high}}\n", 3_000_000.0)
    assert cli("config", "rollback", "3", "--yes").code == 1
    versions.write_text("servers: {a: {host: two}}\n")
    done = cli("config", "rollback", "1", "--yes")
    assert done.code == 1
    assert "database_url held a secret" in done.err
    assert versions.read_text() == "servers: {a: {host: two}}\n"
    assert not versions.with_name(f"{FILE_NAME}.before-rollback").exists()


def test_without_versions_the_commands_say_so(cli, write_config):
    """No config, or none taken up."""
    assert "built-in defaults" in cli("config", "history").err
    write_config(ONE)
    assert "none is kept yet" in cli("config", "rollback", "1", "--yes").err
    assert "a running router stores" in cli("config", "diff").err


def test_versions_of_routers_on_postgresql_are_told_with_who_took_them_up(cli, write_config, monkeypatch):
    """Found by the database that the file names, although the file has a problem elsewhere."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL")
    with running_cluster(binaries) as cluster:
        path = write_config(f"servers: {{a: {{host: }}}}\ndatabase_url: {cluster.url}\n")

        async def taken_up() -> None:
            await upgrade_database(cluster.url)
            database = Database(cluster.url)
            store = ConfigVersionStore(database, path)
            await store.keep("servers: {a: {host: one}}\n", 1_000_000.0, router="pod-1:11434", cause="start")
            await store.keep("servers: {a: {host: two}}\n", 2_000_000.0, router="pod-2:11434", cause="file")
            await database.aclose()

        asyncio.run(taken_up())
        monkeypatch.setenv("OROUTER_DATABASE_URL", "")
        rows = cli("config", "history", "--json").json()["versions"]
        assert [(row["version"], row["router"], row["cause"]) for row in rows] == [
            (2, "pod-2:11434", "file"),
            (1, "pod-1:11434", "start"),
        ]
        assert "pod-2:11434" in cli("config", "history").out
        assert "+servers: {a: {host: two}}" in cli("config", "diff", "1", "2").out


def test_a_file_that_is_mounted_read_only_is_changed_where_it_comes_from(cli, versions, monkeypatch):
    """The text says where that is, and which command shows what to change there."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("ollama_router_cli.commands.config.versions.shutil.copy2", refuse)
    done = cli("config", "rollback", "1", "--yes")
    assert done.code == 1
    assert "Read-only file system" in done.err
    assert "helm rollback RELEASE" in done.err
    assert "orouter config diff 1 " in done.err
    assert versions.read_text() == TWO
