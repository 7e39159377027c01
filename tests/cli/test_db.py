"""`orouter db`: what is shown, copied, backed up and restored."""

from __future__ import annotations

import stat

from support.next_releases import next_release


def test_status_counts_the_rows(cli):
    """Revision, size and rows of each table, also in JSON; where there is no database, 1, and none is made."""
    assert cli("db", "status").code == 1
    cli("users", "create", "alice")
    found = cli("db", "status", "--json").json()
    assert found["up_to_date"] is True
    assert (found["rows"]["users"], found["rows"]["request_log"]) == (1, 0)
    assert found["size_bytes"] > 0
    assert "request_log" in cli("db", "status").out


def test_a_copy_is_told_table_by_table(cli, tmp_path, monkeypatch):
    """Progress goes to standard error, the result to standard output; the copy then works in the old one's place."""
    cli("users", "create", "alice")
    copied = cli("db", "copy", "--to", f"sqlite:///{tmp_path}/copy.sqlite3", "--json")
    tables = {table["name"]: table for table in copied.json()["tables"]}
    assert tables["users"]["rows"] == 1
    assert len(tables["users"]["digest"]) == 32
    assert "users: 1 of 1 rows" in copied.err
    assert copied.err.count("audit_log: 1 of 1 rows") == 1
    assert "token key" in copied.err
    refused = cli("db", "copy", "--to", f"sqlite:///{tmp_path}/copy.sqlite3")
    assert refused.code == 1
    assert "not empty" in refused.err
    monkeypatch.setenv("OROUTER_DATABASE_URL", f"sqlite:///{tmp_path}/copy.sqlite3")
    assert [user["name"] for user in cli("users", "list", "--json").json()] == ["alice"]


def test_a_backup_is_restored_once_that_is_confirmed(cli, tmp_path):
    """Something else than the word changes nothing; the restored users are those of the backup."""
    cli("users", "create", "alice")
    backup = tmp_path / "backup.sqlite3"
    assert "rows in" in cli("db", "backup", str(backup)).out
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert cli("db", "backup", str(backup)).code == 1
    cli("users", "create", "bob")
    assert cli("db", "restore", str(backup), stdin="no\n").code == 1
    assert len(cli("users", "list", "--json").json()) == 2
    assert cli("db", "restore", str(backup), stdin="restore\n").code == 0
    assert [user["name"] for user in cli("users", "list", "--json").json()] == ["alice"]
    assert cli("audit", "list", "--action", "db.restore", "--json").json()[0]["subject"] == "backup.sqlite3"


def test_no_password_is_shown(cli):
    """Of neither address, whatever goes wrong."""
    failed = cli("db", "copy", "--to", "postgresql://router:hunter2@127.0.0.1:1/router")
    assert failed.code == 1
    assert "hunter2" not in failed.out + failed.err


def test_a_downgrade_is_confirmed_and_there_is_nothing_before_the_first(cli):
    """Something else than the word changes nothing."""
    cli("users", "create", "alice")
    assert "nothing was changed" in cli("db", "downgrade", stdin="no\n").err
    with next_release("colours_expand", "shades_expand") as (colours, shades):
        assert f"is at revision {shades}" in cli("db", "upgrade").out
        assert f"is at revision {colours}" in cli("db", "downgrade", "--yes").out
        assert "is at revision 0001_initial" in cli("db", "downgrade", "--yes").out
        assert "none before it" in cli("db", "downgrade", "--yes").err
