"""What processes tell each other through the database."""

from __future__ import annotations

import pytest

from ollama_router_server.storage.activity import Activity, ActivityStore
from ollama_router_server.storage.database import Database

pytestmark = pytest.mark.anyio


def activity(user: str, *, in_flight: int = 1, seen_at: float = 100.0) -> Activity:
    """A row."""
    return Activity(user=user, in_flight=in_flight, seconds=((99, 2), (100, 1)), seen_at=seen_at)


async def test_a_process_reads_the_rows_of_other_routers_only(database: Database) -> None:
    """Not its own, and not those of its router's other workers, whom it sees otherwise."""
    mine, sibling, other = (
        ActivityStore(database, router=router, worker=worker)
        for router, worker in (("here", 0), ("here", 1), ("there", 0))
    )
    for store in (mine, sibling, other):
        await store.publish([activity("alice"), activity("bob", in_flight=3)])
    assert sorted(row.user for row in await mine.others(since=0.0)) == ["alice", "bob"]
    assert len(list(await other.others(since=0.0))) == 4
    assert activity("bob", in_flight=3) in list(await mine.others(since=0.0))


async def test_rows_are_replaced_age_and_go(database: Database) -> None:
    """One row for a process and user; old ones are not read, and deleted when told."""
    reader, writer = (ActivityStore(database, router=router, worker=0) for router in ("here", "there"))
    await writer.publish([activity("alice", in_flight=1)])
    await writer.publish([activity("alice", in_flight=0, seen_at=130.0)])
    assert [row.in_flight for row in await reader.others(since=100.0)] == [0]
    assert not list(await reader.others(since=130.0))
    await reader.forget(before=131.0)
    assert not list(await reader.others(since=0.0))
