"""Waiting over real sockets: how long, in what order, and what is shown of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from ollama_router_core.testing import OllamaSimulator, Silence, model
from ollama_router_server.fleet.fleet_service import FleetService
from support.eventually import eventually
from support.raw_client import RawClient, parsed, request_bytes
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
BODY = {"model": MODEL, "prompt": "hi", "stream": False}


async def test_the_queue_is_shown_and_its_order_and_bounds_hold(tmp_path: Path) -> None:
    """One runs; the batch one goes last, before nobody, though it came first; one without patience is refused."""
    async with (
        OllamaSimulator(models=[model(MODEL, decode_speed=20.0)], time_scale=1.0, answer_tokens=20) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        router.client() as client,
    ):
        first = asyncio.create_task(client.post("/api/generate", json=BODY))
        await eventually(lambda: router.services.fleet.running("one") == 1)
        batch = asyncio.create_task(client.post("/api/generate", json=BODY, headers={"X-Router-Priority": "batch"}))
        await eventually(lambda: router.services.admission.waiting == 1)
        later = asyncio.create_task(client.post("/api/generate", json=BODY))
        await eventually(lambda: router.services.admission.waiting == 2)
        shown = (await client.get("/router/queue")).json()
        impatient = await client.post("/api/generate", json=BODY, headers={"X-Router-Max-Wait": "0.01"})
        unreadable = await client.post("/api/generate", json=BODY, headers={"X-Router-Max-Wait": "soon"})
        done, _ = await asyncio.wait([batch, later], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(first, batch, later)
    assert done == {later}
    assert [task.result().headers.get("x-router-queue-position") for task in (first, batch, later)] == [None, "1", "1"]
    assert shown["waiting"] == 2
    (row,) = shown["queue"]
    assert (row["model"], row["waiting"], row["batch"]) == (MODEL, 2, 1)
    assert impatient.status_code == 503
    assert unreadable.status_code == 400
    assert unreadable.headers["x-router-error"] == "invalid_header"


async def test_who_was_denied_its_slot_and_waits_in_vain_is_logged_as_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process had the slot; its place is in the row of the request, which no slot ever told."""

    class Taken:
        """Denies each claim, as another process has the slot."""

        def claim(self, name: str, model: object, limit: int, done: Callable[[bool], None], **more: object) -> None:
            del model, limit, more
            seen = replace(router.services.fleet.snapshot, elsewhere={name: 1}, in_flight={name: 1})
            monkeypatch.setattr(FleetService, "snapshot", property(lambda _: seen))
            asyncio.get_running_loop().call_soon(done, False)

    async with (
        OllamaSimulator(models=[model(MODEL)], time_scale=0.0) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        router.client() as client,
    ):
        monkeypatch.setattr(router.services.admission._shared, "_claims", Taken())
        refused = await client.post("/api/generate", json=BODY, headers={"X-Router-Max-Wait": "0.2"})
        (row,) = await router.rows(1)
    assert (refused.status_code, row.queue_position) == (503, 1)


async def test_a_token_of_batch_priority_gives_way(tmp_path: Path) -> None:
    """Its request goes last though it came first, and though its client calls it interactive."""
    async with (
        OllamaSimulator(models=[model(MODEL, decode_speed=20.0)], time_scale=1.0, answer_tokens=20) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        router.client() as client,
    ):
        made = await client.post("/router/me/tokens", json={"name": "nightly", "batch": True})
        await router.services.authenticator.refresh()
        async with router.client(made.json()["token"]) as nightly:
            first = asyncio.create_task(client.post("/api/generate", json=BODY))
            await eventually(lambda: router.services.fleet.running("one") == 1)
            said = {"X-Router-Priority": "interactive"}
            batch = asyncio.create_task(nightly.post("/api/generate", json=BODY, headers=said))
            await eventually(lambda: router.services.admission.waiting == 1)
            later = asyncio.create_task(client.post("/api/generate", json=BODY))
            await eventually(lambda: router.services.admission.waiting == 2)
            done, _ = await asyncio.wait([batch, later], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(first, batch, later)
    assert done == {later}


@pytest.mark.parametrize(
    ("path", "sign"),
    [("/api/generate", b'"router":{"queue_position":2,'), ("/v1/completions", b": queue_position=2 expected_wait=")],
)
async def test_streams_that_wait_are_told_their_place_as_it_becomes(tmp_path: Path, path: str, sign: bytes) -> None:
    """Two wait; when the first of them has gone the second hears that it is next, and then gets its answer."""
    async with (
        OllamaSimulator(models=[model(MODEL)], time_scale=0.01) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}, load_keepalive=0.05) as router,
        router.client() as client,
        RawClient.open(router.port) as raw,
    ):
        sim.misbehave(Silence(), path="/api/generate", times=1)
        first = asyncio.create_task(client.post("/api/generate", json=BODY))
        await eventually(lambda: router.services.fleet.running("one") == 1)
        second = asyncio.create_task(client.post("/api/generate", json=BODY))
        await eventually(lambda: router.services.admission.waiting == 1)
        body = json.dumps({**BODY, "stream": True}).encode()
        await raw.send(request_bytes(router.token, body, path=path, headers={"Connection": "close"}))
        await raw.until(sign)
        second.cancel()
        await raw.until(sign.replace(b"2", b"1"))
        first.cancel()
        answer = parsed(await raw.to_end())
        assert (answer.status, answer.fields["x-router-queue-position"], answer.complete) == (200, "2", True)
