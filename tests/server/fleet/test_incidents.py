"""What a process reports as incidents, and what it leaves to the first worker or to other routers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.coordination import BreakerClosed
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
from ollama_router_server.fleet.incidents import Incidents
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.incidents import IncidentFilter, IncidentStore
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


def process(store: IncidentStore, index: int = 0, **coordination: Any) -> Incidents:
    """One of a router's processes; its clock stands."""
    given = {"asks": False, "away": False, "own_page": lambda: b"", **coordination}
    shared: Any = SimpleNamespace(index=index, group="fleet", **given)
    return Incidents(store, router="here:11434", coordination=shared, clock=FakeClock())


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
    assert len(await store.list(IncidentFilter(kind="router.restart"))) == 1
    for one in (dead, other, again):
        await one.aclose()
