"""The audit trail: each change of users, tokens and groups leaves one entry, and nothing else does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ollama_router_core.access.grants import Grants
from ollama_router_core.errors import RouterError
from ollama_router_server.storage.audit_log import ROUTER, Actor, AuditEntry, AuditFilter, AuditLog, actions_of
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.group_store import GroupStore
from ollama_router_server.storage.identities import UserChange
from ollama_router_server.storage.user_store import UserStore
from support.storage import FakeClock, create_sqlite, sqlite_url

pytestmark = pytest.mark.anyio

OPS = Actor("ops", "http", "10.0.0.7")


@pytest.fixture
def audit(database: Database) -> AuditLog:
    """The trail."""
    return AuditLog(database, clock=FakeClock())


@pytest.fixture
def users(database: Database) -> UserStore:
    """Users, changed by the router itself unless somebody is named."""
    return UserStore(database, clock=FakeClock(), cost=4)


@pytest.fixture
def groups(database: Database) -> GroupStore:
    """Groups, likewise."""
    return GroupStore(database, clock=FakeClock())


async def told(audit: AuditLog, **chosen: Any) -> list[tuple[str, str | None, dict[str, Any]]]:
    """What the trail tells, oldest first."""
    entries = reversed(await audit.list(AuditFilter(**chosen)))
    return [(entry.action, entry.subject, dict(entry.detail)) for entry in entries]


async def test_every_change_of_a_user_is_told(audit: AuditLog, users: UserStore, groups: GroupStore) -> None:
    """With who, from where, and what about it."""
    await groups.by(OPS).create("team", Grants(requests_per_minute=60))
    acting = users.by(OPS)
    await acting.create("alice", role="admin", group="team")
    await acting.set_grants("alice", {"models": ["llama*"], "cloud": None})
    await acting.change("alice", UserChange(role="user", moves=True))
    await acting.change("alice", UserChange(active=False))
    await acting.change("alice", UserChange(active=True))
    await acting.delete("alice")
    assert await told(audit, actor="ops") == [
        ("group.create", "team", {"grants": {"requests_per_minute": 60}}),
        ("user.create", "alice", {"role": "admin", "group": "team", "grants": {}}),
        ("user.change", "alice", {"grants": {"models": ["llama*"], "cloud": None}}),
        ("user.change", "alice", {"role": "user", "group": None}),
        ("user.deactivate", "alice", {"active": False}),
        ("user.activate", "alice", {"active": True}),
        ("user.delete", "alice", {}),
    ]
    assert {entry.actor for entry in await audit.list(AuditFilter())} == {OPS}


async def test_entries_of_one_subject_are_found_among_any_number_of_others(audit: AuditLog) -> None:
    """The limit counts those alone."""
    await audit.record(OPS, "server.drain", "s1")
    for _ in range(5):
        await audit.record(OPS, "server.drain", "s2")
    found = await audit.list(AuditFilter(actions=("server.drain",), subject="s1"), limit=2)
    assert [entry.subject for entry in found] == ["s1"]


async def test_every_change_of_tokens_and_groups_is_told(audit: AuditLog, users: UserStore, groups: GroupStore) -> None:
    """A token by its name: neither it nor its digest is in the trail."""
    secrets = [(await users.create("alice")).token, (await users.add_token("alice", "laptop")).token]
    secrets.append((await users.regenerate_token("alice")).token)
    await users.revoke_token("alice", "laptop")
    await groups.create("team")
    await groups.set_grants("team", {"concurrent_requests": 2})
    await groups.delete("team")
    entries = await told(audit)
    assert entries[1:] == [
        ("token.create", "alice", {"token": "laptop"}),
        ("token.replace", "alice", {"token": "default"}),
        ("token.revoke", "alice", {"token": "laptop"}),
        ("group.create", "team", {"grants": {}}),
        ("group.change", "team", {"grants": {"concurrent_requests": 2}}),
        ("group.delete", "team", {}),
    ]
    assert {entry.actor for entry in await audit.list(AuditFilter())} == {ROUTER}
    assert not any(secret.reveal() in str(entries) or "$2b$" in str(entries) for secret in secrets)


async def test_what_did_not_happen_is_not_told(audit: AuditLog, users: UserStore, groups: GroupStore) -> None:
    """An entry stands and falls with its change."""
    await users.create("alice")
    await groups.create("team")
    await users.change("alice", UserChange(moves=True, group="team"))
    before = await told(audit)
    for refused in (
        users.create("alice"),
        users.create("bob", group="nobody"),
        users.delete("carol"),
        users.add_token("alice", "default"),
        users.revoke_token("alice", "laptop"),
        users.set_grants("alice", {"networks": ["nowhere"]}),
        groups.create("team"),
        groups.delete("team"),
    ):
        with pytest.raises(RouterError):
            await refused
    assert await told(audit) == before


async def test_entries_are_found_by_time_actor_and_action(audit: AuditLog, database: Database) -> None:
    """Newest first, a few at a time."""
    clock = FakeClock()
    trail = AuditLog(database, clock=clock)
    for number, action in enumerate(("server.drain", "server.undrain", "config.reload")):
        await trail.record(OPS if number else Actor("root", "cli", "box"), action, "big")  # type: ignore[arg-type]
        clock.advance(10)
    assert [entry.action for entry in await audit.list(AuditFilter(), limit=2)] == ["config.reload", "server.undrain"]
    assert [row[0] for row in await told(audit, since=clock.wall() - 20)] == ["server.undrain", "config.reload"]
    assert [row[0] for row in await told(audit, actor="root")] == ["server.drain"]
    assert [row[0] for row in await told(audit, actions=actions_of("server"))] == ["server.drain", "server.undrain"]
    assert await told(audit, actions=actions_of("server.drain"), actor="ops") == []


def test_a_word_stands_for_all_actions_that_begin_with_it() -> None:
    """Whole words only."""
    assert actions_of("token") == ("token.create", "token.replace", "token.revoke")
    assert actions_of("config.reload") == ("config.reload",)
    assert actions_of("use") == actions_of("") == ()


async def test_a_database_that_is_locked_does_not_undo_what_was_done(tmp_path: Path) -> None:
    """A server is drained all the same; the router's own log has the entry."""
    path = tmp_path / "router.sqlite3"
    create_sqlite(path)
    database = Database(sqlite_url(path), busy_timeout=0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other, capture_logs() as lines:
        other.execute("BEGIN IMMEDIATE")
        await AuditLog(database, clock=FakeClock()).record(OPS, "server.drain", "big")
    assert [(line["event"], line["actor"], line["subject"]) for line in lines] == [
        ("audit_entry_not_written", "ops", "big")
    ]
    assert await AuditLog(database, clock=FakeClock()).list(AuditFilter()) == ()
    await database.aclose()


def test_an_entry_is_one_flat_object() -> None:
    """As the command line and the admin API show it."""
    entry = AuditEntry(at=1.5, actor=OPS, action="server.drain", subject="big", detail={"n": 1})
    assert entry.to_json() == {
        "at": 1.5,
        "actor": "ops",
        "via": "http",
        "address": "10.0.0.7",
        "action": "server.drain",
        "subject": "big",
        "detail": {"n": 1},
    }
