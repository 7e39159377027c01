"""Sessions of the console as they are stored: which of them are open, and what ending them counts."""

from __future__ import annotations

import pytest

from ollama_router_server.storage.audit_log import ROUTER, AuditFilter, AuditLog
from ollama_router_server.storage.console_sessions import ConsoleSessions
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.user_store import UserStore
from support.storage import FakeClock

pytestmark = pytest.mark.anyio


async def test_what_is_over_already_is_not_counted_as_ended(database: Database) -> None:
    """Neither all together nor one by its id; the trail tells of none."""
    clock = FakeClock()
    users = UserStore(database, clock=clock, cost=4)
    sessions = ConsoleSessions(database, clock=clock, idle=60.0, longest=600.0)
    await users.create("alice")
    (token,) = (await users.identities()).tokens
    await sessions.open(token.user, "token")
    (one,) = await sessions.list("alice")
    clock.now += 61
    assert await sessions.end("alice", by=ROUTER, only=one.id) == 0
    assert await sessions.end("alice", by=ROUTER) == 0
    assert not await AuditLog(database, clock=clock).list(AuditFilter(actions=("user.sign_out",)))
