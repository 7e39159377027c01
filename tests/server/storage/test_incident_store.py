"""Incidents as rows: each once, from its first sign to its end, whoever reports it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ollama_router_core.errors import Overloaded, StorageUnavailable
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.incident_changes import (
    Began,
    Ended,
    IncidentKey,
    Origin,
    Reconfigured,
    Started,
    Stopped,
)
from ollama_router_server.storage.incident_hits import Hit
from ollama_router_server.storage.incident_store import IncidentFilter, IncidentStore
from ollama_router_server.storage.incident_writer import IncidentWriter
from ollama_router_server.storage.request_log import RequestLog
from support.eventually import eventually
from support.records import make_record
from support.storage import create_sqlite

pytestmark = pytest.mark.anyio

HERE, THERE = Origin("here:11434"), Origin("there:11434")


def down(at: float, server: str = "big", cause: str = "refused") -> Began:
    """A server goes down."""
    return Began(kind="server.down", at=at, cause=cause, server=server)


def up(at: float, server: str = "big") -> Ended:
    """It comes back."""
    return Ended(kind="server.down", at=at, server=server)


@pytest.fixture
def store(database: Database) -> IncidentStore:
    """The incidents of SQLite, then of PostgreSQL."""
    return IncidentStore(database)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """A migrated file."""
    return create_sqlite(tmp_path / "router.sqlite3")


@pytest.fixture
async def small(sqlite: str) -> AsyncIterator[Database]:
    """SQLite alone, for what no engine does otherwise."""
    database = Database(sqlite)
    yield database
    await database.aclose()


async def told(store: IncidentStore) -> list[tuple[str, str, str, float, float | None]]:
    """All of them, oldest first."""
    found = reversed(await store.list(IncidentFilter()))
    return [(one.router, one.kind, one.server, one.began_at, one.ended_at) for one in found]


async def test_one_is_under_way_once_and_keeps_its_first_cause(store: IncidentStore) -> None:
    """In one line. Other workers report the same; the second time is another incident."""
    await store.apply(HERE, [down(10.0, cause="it\n was\trefused "), down(11.0, cause="another"), up(20.0), up(21.0)])
    await store.apply(HERE, [down(30.0, cause="it was refused")])
    assert await told(store) == [
        ("here:11434", "server.down", "big", 10.0, 20.0),
        ("here:11434", "server.down", "big", 30.0, None),
    ]
    assert {one.cause for one in await store.list(IncidentFilter())} == {"it was refused"}


async def test_routers_have_their_own_but_of_a_shared_breaker_there_is_one(store: IncidentStore) -> None:
    """Whether a server answers is seen from each place; a breaker that they share opens once, and any may close it."""
    one, two = Origin("one:11434", "fleet"), Origin("two:11434", "fleet")
    suspended = Began(kind="server.suspended", at=5.0, cause="refused", server="big")
    await asyncio.gather(*(store.apply(origin, [down(4.0), suspended]) for origin in (one, two)))
    await store.apply(two, [Ended(kind="server.suspended", at=9.0, server="big"), up(9.0)])
    found = await told(store)
    assert sorted(row[:2] + row[3:] for row in found if row[1] == "server.down") == [
        ("one:11434", "server.down", 4.0, None), ("two:11434", "server.down", 4.0, 9.0),
    ]  # fmt: skip
    assert [row[3:] for row in found if row[1] == "server.suspended"] == [(5.0, 9.0)]


async def test_what_a_fleet_has_in_common_outlasts_the_start_of_who_told_it(small: Database) -> None:
    """Others suffer from it still; what nobody has spoken of for long is not gone on with."""
    store, one, two = IncidentStore(small), Origin("one:11434", "fleet"), Origin("two:11434", "fleet")
    await store.apply(one, [Began(kind=kind, at=5.0, cause="many") for kind in ("requests.refused", "line.full")])
    await store.apply(one, [Started(at=9.0, servers=frozenset())])
    (found,) = await store.of_fleet(two, since=5.0)
    assert (found.router, found.kind, found.ended_at) == ("one:11434", "requests.refused", None)
    assert await store.of_fleet(two, since=6.0) == ()
    assert await store.of_fleet(HERE, since=5.0) == ()
    assert ("one:11434", "line.full", "", 5.0, 9.0) in await told(store)


async def test_a_clock_that_was_set_back_ends_nothing_before_it_began(store: IncidentStore) -> None:
    """An incident lasts no negative time."""
    await store.apply(HERE, [down(10.0), up(3.0)])
    assert (await told(store))[0][3:] == (10.0, 10.0)


async def test_the_next_start_ends_what_a_process_suffers_from(small: Database) -> None:
    """Servers that are still there may be down still; what is about others is over, and other routers' stays."""
    store = IncidentStore(small)
    suspended = Began(kind="model.suspended", at=3.0, cause="out of memory", server="big", model="llama3.3:70b")
    await store.apply(HERE, [down(1.0), down(2.0, "gone"), suspended])
    await store.apply(THERE, [down(1.0, "gone")])
    await store.apply(HERE, [Started(at=9.0, servers=frozenset({"big"}))])
    assert set(await told(store)) == {
        ("here:11434", "server.down", "big", 1.0, None),
        ("here:11434", "server.down", "gone", 2.0, 9.0),
        ("here:11434", "model.suspended", "big", 3.0, 9.0),
        ("here:11434", "router.restart", "", 9.0, 9.0),
        ("there:11434", "server.down", "gone", 1.0, None),
    }
    await store.apply(HERE, [Reconfigured(at=11.0, servers=frozenset({"other"}))])
    assert ("here:11434", "server.down", "big", 1.0, 11.0) in await told(store)


async def test_a_restart_is_one_incident_and_a_hand_over_none(small: Database) -> None:
    """From the stop to the next start; one without a stop says so; who has a successor was never off."""
    store, servers = IncidentStore(small), frozenset({"big"})
    first, again, unasked = (Started(at=at, servers=servers) for at in (1.0, 12.0, 20.0))
    await store.apply(HERE, [first, Stopped(at=10.0, since=1.0), again])
    await store.apply(HERE, [unasked, Stopped(at=21.0, since=12.0)])
    found = reversed(await store.list(IncidentFilter()))
    assert [(one.began_at, one.ended_at, one.cause) for one in found] == [
        (1.0, 1.0, "started for the first time"),
        (10.0, 12.0, "stopped and started again"),
        (20.0, 20.0, "started; that it stopped before is not recorded"),
    ]


async def test_what_nobody_sees_any_more_ended_when_it_was_last_seen(small: Database) -> None:
    """A router that was deleted cannot say that its servers came back."""
    store = IncidentStore(small)
    await store.apply(HERE, [down(0.0)])
    await store.apply(THERE, [down(100.0, "mid"), down(100.0, "small")])
    mid = [IncidentKey("server.down", "mid"), IncidentKey("server.down", "big")]
    await store.keep_alive(THERE, mid, 1_895.0, end_silent=False)
    assert {row[4] for row in await told(store)} == {None}
    await store.keep_alive(THERE, mid, 1_901.0, end_silent=True)
    assert await told(store) == [
        ("here:11434", "server.down", "big", 0.0, 0.0),
        ("there:11434", "server.down", "mid", 100.0, None),
        ("there:11434", "server.down", "small", 100.0, 100.0),
    ]


async def test_incidents_are_chosen_by_when_they_were_under_way(small: Database) -> None:
    """Also one that began before; by kind, server and who is in it, newest first, not more than wanted."""
    store = IncidentStore(small)
    await store.apply(HERE, [down(10.0), up(20.0), down(30.0, "mid"), down(40.0, "small"), up(45.0, "small")])

    async def servers(**chosen: object) -> list[str]:
        return [one.server for one in await store.list(IncidentFilter(**chosen), limit=2)]  # type: ignore[arg-type]

    assert await servers(since=15.0, before=16.0) == ["big"]
    assert await servers(since=21.0) == ["small", "mid"]
    assert await servers(active=True) == ["mid"]
    assert await servers(active=False, server="big") == ["big"]
    assert await servers(kinds=["config.refused"]) == []
    shared = [Origin(name, fleet="lab") for name in ("here:11434", "there:11434")]
    for origin in (THERE, *shared):
        await store.apply(origin, [Began(kind="server.suspended", at=50.0, cause="", server=origin.fleet or "alone")])
    assert await servers(origin=HERE, since=46.0) == ["mid"]
    assert await servers(origin=shared[0], since=46.0) == ["lab", "mid"]


async def test_requests_that_failed_meanwhile_are_counted(store: IncidentStore, database: Database) -> None:
    """At that server, for that model, of how many users; not those before, after, elsewhere, or that went well."""
    fails = {"status": 502, "error": "gone", "server": "big"}
    rows = [
        make_record(1, started_at=5_000.0, total_ms=10_000.0, user="alice", **fails),
        make_record(2, started_at=5_020.0, total_ms=5.0, user="alice", **fails, model_served="Qwen3:8b"),
        make_record(3, started_at=5_021.0, total_ms=5.0, user="bob", **fails),
        make_record(4, started_at=4_990.0, total_ms=5.0, user="carol", **fails),
        make_record(5, started_at=5_050.0, total_ms=5.0, user="carol", **fails),
        make_record(6, started_at=5_020.0, total_ms=5.0, user="carol", **{**fails, "server": "mid"}),
        make_record(7, started_at=5_020.0, total_ms=5.0, user="carol", server="big"),
    ]
    await RequestLog(database).insert(rows)
    suspended = {"kind": "model.suspended", "server": "big", "model": "qwen3:8b"}
    await store.apply(HERE, [down(5_005.0), up(5_040.0), Began(at=5_005.0, cause="no memory", **suspended)])  # type: ignore[arg-type]
    found = {one.kind: one for one in await store.list(IncidentFilter())}
    hits = await store.hits(found.values())
    assert hits[found["server.down"].id] == Hit(3, 2)
    assert hits[found["model.suspended"].id] == Hit(1, 1)


async def test_requests_are_counted_for_some_incidents_at_once_and_one_question_at_a_time(
    small: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may look cannot occupy all that read the database, not even by asking and leaving."""
    monkeypatch.setattr("ollama_router_server.storage.incident_store._MOST_COUNTED", 2)
    monkeypatch.setattr("ollama_router_server.storage.incident_store._PATIENCE", 0.01)
    held, asked = asyncio.Event(), asyncio.Event()
    store = IncidentStore(small)
    await store.apply(HERE, [down(float(number), f"s{number}") for number in range(4)])
    found = await store.list(IncidentFilter())
    assert set(await store.hits(found)) == {one.id for one in found[:2]}

    async def slow(*_: object) -> dict[int, Hit]:
        asked.set()
        await held.wait()
        return {}

    with monkeypatch.context() as slowly:
        slowly.setattr(small, "read", slow)
        one = asyncio.create_task(store.hits(found))
        await asked.wait()
        one.cancel()
        with pytest.raises(Overloaded):
            await store.hits(found)
        held.set()
    monkeypatch.setattr("ollama_router_server.storage.incident_store._PATIENCE", 30.0)
    assert set(await store.hits(found)) == {one.id for one in found[:2]}


async def test_only_the_newest_are_kept(small: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In steps; one that goes on counts as any."""
    monkeypatch.setattr("ollama_router_server.storage.incident_store._MOST_ROWS", 5)
    monkeypatch.setattr("ollama_router_server.storage.incident_store._DELETED_AT_ONCE", 2)
    store = IncidentStore(small)
    await store.apply(HERE, [down(float(number), f"s{number}") for number in range(12)])
    assert await store.cleanup(before=None) == 7
    assert [one.server for one in await store.list(IncidentFilter())] == ["s11", "s10", "s9", "s8", "s7"]


class Failing(IncidentStore):
    """A database that is away for the first attempts."""

    def __init__(self, database: Database, failures: int) -> None:
        super().__init__(database)
        self.failures = failures

    async def apply(self, origin: Origin, changes: object) -> None:
        """Fail, or write."""
        if self.failures > 0:
            self.failures -= 1
            raise StorageUnavailable("away")
        await super().apply(origin, changes)  # type: ignore[arg-type]


async def test_what_is_reported_while_the_database_is_away_is_written_afterwards(
    small: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order; reporting waits for nothing."""
    monkeypatch.setattr("ollama_router_server.storage.incident_writer._PAUSE", 0.01)
    writer = IncidentWriter(Failing(small, 3), HERE)
    writer.start()
    for change in (down(1.0), up(2.0), down(3.0)):
        writer.report(change)
    await eventually(lambda: writer.pending == 0)
    await writer.aclose()
    assert [row[3:] for row in await told(IncidentStore(small))] == [(1.0, 2.0), (3.0, None)]


async def test_a_writer_holds_no_more_than_a_thousand_and_stops_without_the_database(small: Database) -> None:
    """However long the database is away."""
    writer = IncidentWriter(Failing(small, 10**9), HERE)
    writer.start()
    for number in range(1_100):
        writer.report(down(float(number)))
    assert writer.pending == 1_000
    await asyncio.wait_for(writer.aclose(), 30)


async def test_what_waits_is_written_at_the_end(small: Database) -> None:
    """A router that stops says so."""
    writer = IncidentWriter(IncidentStore(small), HERE)
    writer.start()
    writer.report(Stopped(at=5.0, since=1.0))
    await writer.aclose(grace=30.0)
    assert [row[1] for row in await told(IncidentStore(small))] == ["router.restart"]


async def test_refusals_hit_who_was_refused(store: IncidentStore, database: Database) -> None:
    """Those that reached no server while it lasted, for want of room or for a limit."""
    await store.apply(HERE, [Began(kind="requests.refused", at=100.0, cause="many")])
    await store.apply(HERE, [Ended(kind="requests.refused", at=200.0)])
    refused = {"status": 429, "attempts": 0, "server": None, "error": "too many", "total_ms": 1.0}
    await RequestLog(database).insert(
        [
            make_record(1, started_at=120.0, user="alice", **refused),
            make_record(2, started_at=130.0, user="bob", **refused),
            make_record(3, started_at=140.0, user="bob", **{**refused, "status": 404}),
            make_record(4, started_at=150.0, user="carol", **{**refused, "attempts": 1, "server": "big"}),
            make_record(5, started_at=300.0, user="carol", **refused),
        ]
    )
    (one,) = await store.list(IncidentFilter())
    assert await store.hits([one]) == {one.id: Hit(2, 2)}
