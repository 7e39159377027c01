"""How soon first tokens came, by each thing that usage is told by."""

from __future__ import annotations

import pytest

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.first_tokens import FirstToken, UsualSpeed, read_first_tokens, read_usual_speeds
from ollama_router_server.storage.group_store import GroupStore
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.user_store import UserStore
from support.records import make_record
from support.storage import FakeClock

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
    assert (
        found["user", "bob"]
        == found["server", "far"]
        == found["host", "far"]
        == found["group", ""]
        == found["day", "172800"]
    )
    assert found["user", "bob"] == FirstToken(7.0, 7.0)
    assert found["model", "llama3.1:8b"] == FirstToken(50.0, 95.0)
    assert ("user", "eve") not in found
    only = await database.read(read_first_tokens, LogFilter(), kinds=("model",))
    assert {kind for kind, _ in only} == {"model"}


async def test_only_the_newest_rows_are_looked_at(database: Database) -> None:
    """However long the log is."""
    log = RequestLog(database)
    await log.insert([make_record(n, started_at=DAY + n, ttft_ms=float(n)) for n in range(10)])
    found = await database.read(lambda connection: read_first_tokens(connection, LogFilter(before=DAY + 8), most=2))
    assert found["server", "big"] == FirstToken(6.0, 7.0)


async def test_usual_speeds_are_medians_of_answers(database: Database) -> None:
    """Of the model that answered; what failed does not count, and where nothing is told nothing is said."""
    log = RequestLog(database)
    answers = {"ttft_ms": 100.0, "total_ms": 2_100.0, "completion_tokens": 40}
    await log.insert([
        make_record(1, **answers, decode_ms=1_000.0),
        make_record(2, **answers | {"ttft_ms": 300.0}, decode_ms=500.0),
        make_record(3, **answers | {"ttft_ms": 900.0}, decode_ms=4_000.0),
        make_record(4, **answers | {"ttft_ms": 1.0}, status=503),
        make_record(5, **answers, model_served="gpt", streamed=True),
        make_record(6, **answers, model_served="embed", streamed=False),
        make_record(7, **answers, model_served=None),
    ])  # fmt: skip
    found = await database.read(lambda connection: read_usual_speeds(connection, since=0.0))
    assert found["llama3.1:8b"] == UsualSpeed(ttft_ms=300.0, tokens_per_second=40.0)
    assert found["gpt"] == UsualSpeed(ttft_ms=100.0, tokens_per_second=20.0)
    assert found["embed"] == UsualSpeed(ttft_ms=100.0, tokens_per_second=None)
    assert await database.read(lambda connection: read_usual_speeds(connection, since=2_000.0)) == {}
