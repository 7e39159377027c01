"""How soon first tokens came, by each thing that usage is told by."""

from __future__ import annotations

import pytest

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.first_tokens import FirstToken, read_first_tokens
from ollama_router_server.storage.groups import GroupStore
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.users import UserStore
from support.storage import FakeClock, make_record

pytestmark = pytest.mark.anyio

DAY = 86_400.0


async def test_each_name_has_its_own_percentiles(database: Database) -> None:
    """By nearest rank, as all percentiles of the log; rows without a first byte tell nothing."""
    log = RequestLog(database)
    clock = FakeClock()
    await GroupStore(database, clock=clock).create("staff")
    await UserStore(database, clock=clock).create("alice", role="user", group="staff")
    rows = [make_record(n, started_at=DAY + n, ttft_ms=float(n)) for n in range(1, 101)]
    rows += [make_record(200, started_at=2 * DAY, user="bob", server="far", ttft_ms=7.0), make_record(201, user="eve")]
    await log.insert(rows)
    found = await database.read(read_first_tokens, LogFilter())
    assert found["user", "alice"] == found["group", "staff"] == found["day", "86400"] == FirstToken(50.0, 95.0)
    assert found["user", "bob"] == found["server", "far"] == found["group", ""] == found["day", "172800"]
    assert found["user", "bob"] == FirstToken(7.0, 7.0)
    assert found["model", "llama3.1:8b"] == FirstToken(50.0, 95.0)
    assert ("user", "eve") not in found


async def test_only_the_newest_rows_are_looked_at(database: Database) -> None:
    """However long the log is."""
    log = RequestLog(database)
    await log.insert([make_record(n, started_at=DAY + n, ttft_ms=float(n)) for n in range(10)])
    found = await database.read(lambda connection: read_first_tokens(connection, LogFilter(before=DAY + 8), most=2))
    assert found["server", "big"] == FirstToken(6.0, 7.0)
