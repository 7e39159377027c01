"""What workers publish and who is heard: one that falls silent is missed, and its successor goes on with its sums."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_router_core.coordination.in_process import InProcess
from ollama_router_core.coordination.interface import Coordination
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.telemetry.last_hour import LastHour
from support.records import make_record
from support.storage import FakeClock

pytestmark = pytest.mark.anyio


def worker(member: Coordination, clock: FakeClock, hour: LastHour | None = None) -> WorkerSync:
    """One that runs a request, and has no figures."""
    running: list[dict[str, Any]] = [{"id": f"of {member.index}"}]
    counted = hour or LastHour()
    return WorkerSync(
        member,
        clock,
        collect=list,
        last_hour=counted.rows,
        servers_hour=counted.server_rows,
        active_requests=lambda: running,
        find_active=lambda _: None,
        follow=lambda _: None,
    )


async def published(sync: WorkerSync) -> None:
    """Have it publish, as it does when it stops."""
    sync.start()
    await sync.aclose()


async def test_a_worker_that_falls_silent_is_not_heard() -> None:
    """Nor is what it ran shown any more; one that has never said anything is not heard either."""
    clock, group = FakeClock(), InProcess("group", b"k" * 32, size=3)
    one, other = worker(group.member(0), clock), worker(group.member(1), clock)
    assert one.workers == (1, 3)
    await published(other)
    assert one.workers == (2, 3)
    assert [row["id"] for row in one.active_requests()] == ["of 0", "of 1"]
    assert [one.find_active(name) for name in ("of 1", "of 2")] == [({"id": "of 1"}, None), None]
    clock.advance(10)
    assert one.workers == (1, 3)
    assert [row["id"] for row in one.active_requests()] == ["of 0"]
    assert one.find_active("of 1") is None


async def test_servers_are_those_of_all_workers() -> None:
    """Each worker's sums are added."""
    clock, group = FakeClock(), InProcess("group", b"k" * 32, size=2)
    hours = [LastHour(), LastHour()]
    for number, hour in enumerate(hours):
        hour.add(make_record(number, started_at=clock.wall() - 1, total_ms=0.0, status=502 if number else 200))
    await published(worker(group.member(1), clock, hours[1]))
    found = worker(group.member(0), clock, hours[0]).servers_hour()
    assert (found["big"].requests, found["big"].failed) == (2, 1)


async def test_the_last_hour_is_of_all_workers_and_outlives_one() -> None:
    """A worker that is started again adds to what its predecessor had counted."""
    clock, group = FakeClock(), InProcess("group", b"k" * 32, size=2)
    hour = LastHour()
    hour.add(make_record(1, started_at=clock.wall() - 1, total_ms=0.0, completion_tokens=5))
    await published(worker(group.member(1), clock, hour))
    again = LastHour()
    again.add(make_record(2, started_at=clock.wall() - 1, total_ms=0.0, completion_tokens=7))
    await published(worker(group.member(1), clock, again))
    minutes = worker(group.member(0), clock).last_hour()
    assert sum(one.requests for one in minutes) == 2
    assert sum(one.completion_tokens for one in minutes) == 12


async def test_the_last_hour_of_a_server_outlives_its_workers() -> None:
    """The third in a row tells what all three have counted, until an hour has passed."""
    clock, group = FakeClock(), InProcess("group", b"k" * 32, size=2)
    for number in range(3):
        hour = LastHour()
        hour.add(make_record(number, started_at=clock.wall() - 1, total_ms=0.0, server="big"))
        await published(worker(group.member(1), clock, hour))
    asked = worker(group.member(0), clock)
    assert asked.servers_hour()["big"].requests == 3
    clock.advance(3_600)
    assert asked.servers_hour() == {}
