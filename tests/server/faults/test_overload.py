"""More than fits is refused at once, with the time to come back; what was let in is served as if nothing were.

Who goes next, who waits how long and fairness between users are in `tests/server/relay/test_admission.py`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from support.eventually import eventually
from support.faulty_ollama import entry, faulty_ollama, length_of, whole
from support.raw_client import chat
from support.router import running_router
from support.scripted_server import Peer, ScriptedServer
from support.tasks import tasks_for_requests

pytestmark = pytest.mark.anyio

SLOTS, LINE = 4, 8
FITS = SLOTS + LINE
ASKED = 10 * FITS


class Gate:
    """A server that answers nothing until it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.there = self.most = 0

    def server(self) -> ScriptedServer:
        """The server, with its counts of who is there."""
        return faulty_ollama(self._answer)

    async def _answer(self, peer: Peer, head: bytes) -> None:
        await peer.body(length_of(head))
        self.there += 1
        self.most = max(self.most, self.there)
        await self.opened.wait()
        self.there -= 1
        await peer.send(whole())


async def test_ten_times_too_many_are_refused_while_nobody_is_served(tmp_path: Path) -> None:
    """Refusals wait for nothing: all are there before the first answer. The others are all served, none too many."""
    gate = Gate()
    async with (
        gate.server() as server,
        running_router(
            tmp_path, {"one": entry(server, max_concurrent=SLOTS)}, queue={"max_waiting": LINE, "max_wait": 60.0}
        ) as router,
        router.client(limits=httpx.Limits(max_connections=None)) as client,
    ):
        asked = [asyncio.create_task(client.post("/api/chat", content=chat(stream=False))) for _ in range(ASKED)]
        await eventually(lambda: sum(task.done() for task in asked) == ASKED - FITS and gate.there == SLOTS)
        refused = [task.result() for task in asked if task.done()]
        gate.opened.set()
        answers = await asyncio.gather(*asked)
        again = await client.post("/api/chat", content=chat(stream=False))
    assert {(answer.status_code, answer.headers["x-router-error"]) for answer in refused} == {(503, "overloaded")}
    assert all(1 <= int(answer.headers["retry-after"]) <= 30 for answer in refused)
    assert sum(answer.status_code == 200 for answer in answers) == FITS
    assert gate.most == SLOTS
    assert again.status_code == 200


@pytest.mark.front_only
async def test_a_refused_request_needs_no_task(tmp_path: Path) -> None:
    """A refusal costs less than a request that is served."""
    gate = Gate()
    queue = {"max_waiting": 1, "max_wait": 60.0}
    async with (
        gate.server() as server,
        running_router(tmp_path, {"one": entry(server, max_concurrent=1)}, queue=queue) as router,
        router.client(limits=httpx.Limits(max_connections=None)) as client,
    ):
        fits = [asyncio.create_task(client.post("/api/chat", content=chat(stream=False))) for _ in range(2)]
        await eventually(lambda: gate.there == 1 and router.services.admission.waiting == 1)
        with tasks_for_requests() as tasks:
            refused = [await client.post("/api/chat", content=chat(stream=False)) for _ in range(20)]
        gate.opened.set()
        await asyncio.gather(*fits)
        rows = await router.rows(22)
    assert {answer.status_code for answer in refused} == {503}
    assert tasks == []
    assert [row.error_code for row in rows].count("overloaded") == 20


async def test_no_more_than_max_in_flight_are_held_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bound of the whole router, below every other: 503 with Retry-After, and room again when some have ended.

    Nobody knows who asks then, so there is no row; a line for each would fill a disk, so there is one a second.
    """
    gate = Gate()
    async with (
        gate.server() as server,
        running_router(tmp_path, {"one": entry(server)}, limits={"max_in_flight": 10}) as router,
        router.client(limits=httpx.Limits(max_connections=None)) as client,
    ):
        asked = [asyncio.create_task(client.post("/api/chat", content=chat(stream=False))) for _ in range(40)]
        await eventually(lambda: sum(task.done() for task in asked) >= 30 and gate.there == 10)
        refused = [task.result() for task in asked if task.done()]
        livez = await client.get("/livez")
        gate.opened.set()
        await asyncio.gather(*asked)
        again = await client.post("/api/chat", content=chat(stream=False))
    assert {answer.status_code for answer in refused} == {503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert livez.status_code == 200
    assert again.status_code == 200
    lines = [line for line in capsys.readouterr().out.splitlines() if "refused" in line]
    assert 1 <= len(lines) < 20
