"""What a process reports as incidents, and what it leaves to the first worker or to other routers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.coordination.news import BreakerClosed, BreakerOpened
from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.fleet.notices import (
    ModelReturned,
    ModelSuspended,
    Notice,
    ServerDown,
    ServerLost,
    ServerReturned,
    ServerSuspended,
    ServerUp,
)
from ollama_router_server.fleet.incident_reports import Incidents
from ollama_router_server.fleet.standing_conditions import Standing
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.incident_changes import Change, Ended, IncidentKey, Origin, Stopped
from ollama_router_server.storage.incident_store import IncidentFilter, IncidentStore
from support.eventually import eventually
from support.storage import FakeClock, create_sqlite

pytestmark = pytest.mark.anyio

MODEL = canonical_name("llama3.3:70b")
DOWN, UP = ServerDown("big", "refused"), ServerUp("big", "0.33.3")
SUSPENDED = ServerSuspended("big", 30.0, 10.0, 1, True)
UNABLE = ModelSuspended("big", MODEL, 10.0, "out of memory")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A migrated database."""
    return create_sqlite(tmp_path / "router.sqlite3")


@pytest.fixture
async def store(url: str) -> AsyncIterator[IncidentStore]:
    """The incidents of one database, for several processes."""
    database = Database(url)
    yield IncidentStore(database)
    await database.aclose()


STANDING = Standing(waiting=0, most_waiting=512, lost_rows=0, versions=frozenset({"0.32.15"}), refused={})


def process(store: IncidentStore, index: int = 0, **coordination: Any) -> Incidents:
    """One of a router's processes; its clock stands."""
    given = {"asks": False, "away": False, "own_page": lambda: b"", **coordination}
    shared: Any = SimpleNamespace(index=index, group="fleet", **given)
    return Incidents(store, router="here:11434", coordination=shared, clock=FakeClock(), standing=lambda: STANDING)


async def told(store: IncidentStore, *processes: Incidents) -> list[tuple[str, bool]]:
    """Kinds of what was written besides the start, oldest first, and whether each is over."""
    for one in processes:
        await eventually(lambda one=one: one.writer.pending == 0)  # type: ignore[misc]
    found = reversed(await store.list(IncidentFilter()))
    return [(one.kind, one.ended_at is not None) for one in found if one.kind != "router.restart"]


@pytest.mark.parametrize(
    ("notices", "kept"),
    [
        ([DOWN, ServerLost("big")], [("server.down", False)]),
        ([DOWN, UNABLE, UP], [("server.down", True), ("model.suspended", True)]),
        ([SUSPENDED, SUSPENDED, ServerReturned("big")], [("server.suspended", True)]),
        ([UNABLE, ModelReturned("big", MODEL), UNABLE], [("model.suspended", True), ("model.suspended", False)]),
    ],
)
async def test_notices_begin_and_end_incidents(
    store: IncidentStore, notices: list[Notice], kept: list[tuple[str, bool]]
) -> None:
    """A server that answers again is asked for every model again, too."""
    first = process(store)
    first.start(["big"])
    for notice in notices:
        first.notice(notice)
    assert await told(store, first) == kept
    await first.aclose()


async def test_what_every_worker_sees_the_first_alone_reports(store: IncidentStore) -> None:
    """Each probes the servers by itself and reads the config; what one's request met, that one reports."""
    second = process(store, index=1)
    second.start(["big"])
    second.notice(DOWN)
    second.config("line 3: unknown setting")
    second.notice(SUSPENDED)
    assert await told(store, second) == [("server.suspended", False)]
    await second.aclose()
    assert {one.kind for one in await store.list(IncidentFilter())} == {"server.suspended"}


async def test_a_database_that_was_away_is_written_once_it_is_back(store: IncidentStore) -> None:
    """With its beginning: what is reported meanwhile waits in memory."""
    first = process(store)
    first.start(["big"])
    first.database(True)
    first.database(False)
    assert await told(store, first) == [("database.away", True)]
    await first.aclose()


async def test_routers_with_a_store_in_common(store: IncidentStore) -> None:
    """One reports while the store is away, once; a breaker that another router closed is closed here."""
    first = process(store, asks=True)
    first.start(["big"])
    first.notice(SUSPENDED)
    first.hear([BreakerClosed("big")])
    for away in (False, True, True, False, False):
        first._coordination.away = away  # type: ignore[attr-defined,misc]
        first.look()
    assert sorted(await told(store, first)) == [("coordination.away", True), ("server.suspended", True)]
    await first.aclose()


async def test_what_the_fleet_suffers_from_goes_on_while_its_teller_restarts(store: IncidentStore) -> None:
    """Many refusals are one row, which ends after a quiet minute at the new teller; so are breakers that are open."""
    wave = STANDING._replace(refused={"queue_full": 20})
    dead = process(store, asks=True)
    dead.start(["big", "mid"])
    dead.look_at_conditions()
    dead._standing = lambda: wave
    dead.look_at_conditions()
    dead.notice(SUSPENDED)
    dead.notice(ServerSuspended("mid", 30.0, 10.0, 1, True))
    await told(store, dead)
    again = process(store, asks=True)
    again.start(["big", "mid"])
    await again.go_on(["big"])
    kinds = [("requests.refused", False), ("server.suspended", False), ("server.suspended", True)]
    assert sorted(await told(store, again)) == kinds
    again.look_at_conditions()
    again._clock.advance(61.0)  # type: ignore[attr-defined]
    again.look_at_conditions()
    assert sorted(await told(store, again)) == [("requests.refused", True), *kinds[1:]]
    await again.aclose()
    await dead.aclose()


async def test_a_first_worker_that_is_replaced_is_no_restart_of_the_router(store: IncidentStore) -> None:
    """What the other workers hold goes on, also when it meets the server; what only the dead one saw is over."""
    dead, other = process(store, asks=True, away=True), process(store, index=1)
    dead.start(["big"])
    dead.look()
    await told(store, dead)
    other.start(["big"])
    other.notice(SUSPENDED)
    other.notice(UNABLE)
    await told(store, other)
    again = process(store, asks=True, own_page=lambda: b"{}")
    again.start(["big"])
    again.notice(UP)
    kept = [("coordination.away", True), ("server.suspended", False), ("model.suspended", False)]
    assert await told(store, again) == kept
    again.notice(DOWN)
    again.notice(UP)
    assert (await told(store, again))[2:] == [("model.suspended", True), ("server.down", True)]
    assert len(await store.list(IncidentFilter(kinds=("router.restart",)))) == 1
    for one in (dead, other, again):
        await one.aclose()


@pytest.mark.parametrize("asks", [False, True])
async def test_a_process_that_stops_ends_what_it_alone_suffers_from(
    store: IncidentStore, monkeypatch: pytest.MonkeyPatch, *, asks: bool
) -> None:
    """A successor may have started before; a server that is down may stay so, others suffer from a shared breaker."""
    told: list[Change] = []
    first, second = process(store, asks=asks), process(store, index=1, asks=asks)
    for one in (first, second):
        one.start(["big"])
        monkeypatch.setattr(one.writer, "report", told.append)
    first.notice(DOWN)
    second.notice(UNABLE)
    second.notice(SUSPENDED)
    told.clear()
    await second.aclose()
    await first.aclose()
    assert {change.kind for change in told if isinstance(change, Ended)} == {
        "model.suspended", *([] if asks else ["server.suspended"]),
    }  # fmt: skip
    assert sum(isinstance(change, Stopped) for change in told) == 1


class Rounds(IncidentStore):
    """What a process says goes on, and whether it judges others; the database is away in the second round."""

    def __init__(self) -> None:
        self.said: list[tuple[set[IncidentKey], bool]] = []

    async def apply(self, origin: Origin, changes: object) -> None:
        """Take everything."""

    async def keep_alive(
        self, origin: Origin, suffered: Collection[IncidentKey], now: float, *, end_silent: bool
    ) -> None:
        """Write it down."""
        self.said.append((set(suffered), end_silent))
        if len(self.said) == 2:
            raise StorageUnavailable("away")


async def test_a_process_keeps_what_it_suffers_from_and_judges_others_after_a_round_that_succeeded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an outage all are silent; what is over, or about servers that are gone, nobody keeps."""
    monkeypatch.setattr("ollama_router_server.fleet.incident_reports._KEPT_ALIVE", 0.001)
    rounds = Rounds()
    second = process(rounds, index=1)
    for notice in (DOWN, UNABLE, ModelSuspended("mid", MODEL, 10.0, "damaged"), ServerUp("mid", "0.33.3")):
        second.notice(notice)
    second.notice(ServerSuspended("gone", 30.0, 10.0, 1, True))
    second.reconfigure(["big", "mid"])
    second.hear([BreakerOpened("mid", 30.0, 1, True), BreakerOpened("big", 30.0, 1, True), BreakerClosed("big")])
    second.start(["big", "mid"])
    await eventually(lambda: len(rounds.said) >= 4)
    await second.aclose()
    kept = {IncidentKey("model.suspended", "big", MODEL), IncidentKey("server.suspended", "mid")}
    assert rounds.said[:4] == [(kept, False), (kept, True), (kept, False), (kept, True)]


async def test_what_stands_is_one_row_while_it_lasts(store: IncidentStore) -> None:
    """Versions are told by the first worker alone, a line that is full by the one whose it is."""
    first, second = process(store), process(store, index=1)
    for one in (first, second):
        one.start(["big"])
        one._standing = lambda: STANDING._replace(waiting=512, versions=frozenset({"0.20.1", "0.32.15"}))
    second.look_at_conditions()
    assert await told(store, second) == [("line.full", False)]
    first.look_at_conditions()
    first.look_at_conditions()
    assert sorted(await told(store, first, second)) == [("line.full", False), ("versions.differ", False)]
    await first.aclose()
    await second.aclose()
