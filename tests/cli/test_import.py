"""`orouter users import --from-rails`: nobody needs a new token, and nothing is taken over twice."""

from __future__ import annotations

import anyio
import pytest

from ollama_router_server.accounts.authentication import Authenticator
from ollama_router_server.coordination.alone import alone
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import SystemClock
from support.authentication import verified
from support.identities import bearer
from support.rails import create_rails_database, rails_digest

ALICE = "0123456789abcdefghijklmnopqrstuv"
BOB = "ZYXWVUTSRQPONMLKJIHGFEDCBA987654"
COMMAND = ("users", "import", "--from-rails", "old.sqlite3")


@pytest.fixture
def old(tmp_path):
    """Two users with tokens, one without a digest, one whose name cannot be; five log rows."""
    return create_rails_database(
        tmp_path / "old.sqlite3",
        [
            ("alice", ALICE, rails_digest(ALICE), 1),
            ("bob", BOB, rails_digest(BOB), 0),
            ("carol", "x" * 32, None, 1),
            ("e\x1b[2Jve", "y" * 32, rails_digest("y" * 32), 1),
        ],
        [
            (1, "/api/chat?secret=canary", "llama3.1:8b", "big", 200, 123.45, None),
            (1, "/api/chat", None, None, 500, None, f"refused: Authorization: Bearer {ALICE}; {ALICE}"),
            (2, "/api/tags", "", "small", 200, 1, None),
            (99, "/api/tags", "", "small", 401, 1, f"unknown token={BOB}"),
            (1, "/api/chat", "nul\0l", "big", None, 1, "x" * 1000),
        ],
    )


def who(cli, tmp_path, token):
    """The user that a token names now."""

    async def ask():
        database = Database(f"sqlite:///{tmp_path}/router.sqlite3")
        authenticator = Authenticator(UserStore(database, clock=SystemClock()), clock=SystemClock(), workers=alone())
        await authenticator.start()
        try:
            return (await verified(authenticator, bearer(token))).name
        finally:
            await authenticator.aclose()
            await database.aclose()

    return anyio.run(ask)


def test_tokens_keep_working(cli, old, tmp_path):
    """The digest of Ruby's bcrypt is enough; active stays active, inactive inactive."""
    outcomes = {user["name"]: user["outcome"] for user in cli(*COMMAND, "--json").json()["users"]}
    assert outcomes == {"alice": "created", "bob": "created", "carol": "created", "e\x1b[2Jve": "skipped"}
    assert who(cli, tmp_path, ALICE) == "alice"
    listed = {user["name"]: user for user in cli("users", "list", "--json").json()}
    assert [listed[name]["active"] for name in ("alice", "bob", "carol")] == [True, False, True]
    assert listed["carol"]["tokens"] == []
    assert listed["alice"]["created_at"] == 1738324800.5


def test_log_rows_come_along_without_what_no_row_may_hold(cli, old):
    """Times, figures and errors; no query strings, no tokens."""
    cli(*COMMAND)
    rows = {row["id"]: row for row in cli("logs", "list", "--json").json()}
    assert len(rows) == 5
    first = rows["rails-1"]
    expected = {"user": "alice", "path": "/api/chat", "server": "big", "status": 200, "total_ms": 123.45}
    assert expected.items() <= first.items()
    assert first["started_at"] == 1738368000.25
    assert rows["rails-4"]["user"] is None
    text = cli("logs", "export").out
    assert "canary" not in text
    assert ALICE not in text
    assert BOB not in text


def test_a_second_import_changes_nothing(cli, old):
    """And one after new requests adds only those."""
    cli(*COMMAND)
    again = cli(*COMMAND, "--json").json()
    assert {user["outcome"] for user in again["users"]} == {"unchanged", "skipped"}
    assert (again["log_rows"], again["log_rows_known"]) == (0, 5)
    assert len(cli("logs", "list", "--json").json()) == 5


def test_a_dry_run_says_the_same_and_changes_nothing(cli, old):
    """The report of the run to come."""
    dry = cli(*COMMAND, "--dry-run", "--json").json()
    assert cli("users", "list", "--json").json() == []
    assert cli("logs", "list", "--json").json() == []
    wet = cli(*COMMAND, "--json").json()
    assert {**dry, "dry_run": False} == wet
    shown = cli(*COMMAND, "--dry-run")
    assert "nothing was changed" in shown.out
    assert "\x1b" not in shown.out


def test_a_user_who_is_here_already_keeps_everything_and_gains_a_token(cli, old, tmp_path):
    """The own token goes on working beside the old one."""
    token = cli("users", "create", "alice", "--role", "admin", "--json").json()["token"]
    outcomes = {user["name"]: user["outcome"] for user in cli(*COMMAND, "--json").json()["users"]}
    assert outcomes["alice"] == "token added"
    assert who(cli, tmp_path, ALICE) == who(cli, tmp_path, token) == "alice"
    assert cli("users", "show", "alice", "--json").json()["role"] == "admin"


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_another_file_is_refused(cli, tmp_path, content):
    """With a text that says why, and nothing changed."""
    (tmp_path / "old.sqlite3").write_bytes(content)
    result = cli(*COMMAND)
    assert result.code == 1
    assert "old.sqlite3" in result.err
    assert cli("users", "import", "--from-rails", "missing.sqlite3").code == 1
