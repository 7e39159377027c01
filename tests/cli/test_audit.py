"""`orouter audit list`: what was done here, by whom."""

from __future__ import annotations

import csv
import getpass
import json
import socket

import pytest

from support.rails import create_rails_database


@pytest.fixture(autouse=True)
def _no_sudo(monkeypatch):
    """As on a terminal of one's own."""
    monkeypatch.delenv("SUDO_USER", raising=False)


def actions(cli, *options):
    """The actions listed, newest first."""
    return [entry["action"] for entry in cli("audit", "list", "--json", *options).json()]


def test_what_the_command_line_does_is_told(cli, tmp_path):
    """With the account and the machine it ran on; a dry run does nothing."""
    cli("users", "create", "alice", "--json")
    cli("users", "set", "alice", "--rpm", "5")
    cli("users", "deactivate", "alice")
    create_rails_database(tmp_path / "old.sqlite3", [("bob", "b" * 32, None, 1)], [])
    cli("users", "import", "--from-rails", "old.sqlite3", "--dry-run")
    cli("users", "import", "--from-rails", "old.sqlite3")
    cli("logs", "cleanup", "7", "--yes")
    entries = cli("audit", "list", "--json").json()
    assert [(entry["action"], entry["subject"], entry["detail"]) for entry in reversed(entries)] == [
        ("user.create", "alice", {"role": "user", "group": None, "grants": {}}),
        ("user.change", "alice", {"grants": {"requests_per_minute": 5}}),
        ("user.deactivate", "alice", {"active": False}),
        ("user.import", "old.sqlite3", {"created": 1}),
        ("log.delete", None, {"rows": 0, "days": 7}),
    ]
    who = {(entry["actor"], entry["via"], entry["address"]) for entry in entries}
    assert who == {(getpass.getuser(), "cli", socket.gethostname())}


def test_the_account_before_sudo_is_named(cli, monkeypatch):
    """Everybody is root otherwise."""
    monkeypatch.setenv("SUDO_USER", "carol")
    cli("users", "create", "alice", "--json")
    assert [entry["actor"] for entry in cli("audit", "list", "--json").json()] == ["carol"]


def test_entries_are_chosen_by_options(cli):
    """By time, actor, action and number."""
    cli("users", "create", "alice", "--json")
    cli("users", "tokens", "add", "alice", "laptop", "--json")
    assert actions(cli, "--action", "user") == ["user.create"]
    assert actions(cli, "--limit", "1") == ["token.create"]
    assert actions(cli, "--since", "1h") == ["token.create", "user.create"]
    assert actions(cli, "--since", "2999-01-01T00:00") == actions(cli, "--actor", "nobody") == []
    wrong = cli("audit", "list", "--action", "planet")
    assert wrong.code == 2
    assert "no action is named" in wrong.err


def test_entries_are_printed_for_people_and_for_programs(cli):
    """A table, CSV with a header line, JSON lines; a formula is no formula."""
    assert "no changes" in cli("audit", "list").err
    cli("users", "create", "=1+1", "--json")
    assert "user.create" in cli("audit", "list").out
    (row,) = csv.DictReader(cli("audit", "list", "--format", "csv").out.splitlines())
    assert (row["action"], row["subject"]) == ("user.create", "'=1+1")
    assert json.loads(row["detail"])["role"] == "user"
    assert json.loads(cli("audit", "list", "--format", "jsonl").out)["subject"] == "=1+1"
