"""Asking servers in the background: who hangs is out, who is back is seen, over real sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from ollama_router_core.config.settings import Config
from ollama_router_core.coordination.news import ServerPolled
from ollama_router_core.fleet.rounds import Round
from ollama_router_core.testing import OllamaSimulator, Silence, model
from ollama_router_server.coordination.alone import alone
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from ollama_router_server.upstream.targets import build_targets
from support.eventually import eventually
from support.router import running_router, server_entry
from support.storage import FakeClock

pytestmark = pytest.mark.anyio
MODELS = [model("llama3.1:8b")]
CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


@pytest.mark.parametrize("path", ["/api/version", "/api/ps"])
async def test_a_server_that_hangs_is_out_in_time(tmp_path: Path, path: str) -> None:
    """It accepts and stays silent: out after an interval, three probes and two pauses; others get the requests."""
    interval, timeout = 0.4, 0.5
    settings = {"health_check_interval": interval, "probe_timeout": timeout, "server_busy_threshold_ms": 400.0}
    async with OllamaSimulator(models=MODELS) as hung, OllamaSimulator(models=MODELS) as well:
        servers = {"hung": server_entry(hung, priority=1), "well": server_entry(well, priority=2)}
        async with (
            running_router(tmp_path, servers, **settings, model_info_timeout=0.5) as router,
            router.client() as client,
        ):
            for each in {"/api/version", path}:
                hung.misbehave(Silence(), path=each)
            began = time.monotonic()
            await eventually(lambda: router.services.fleet.snapshot.servers["hung"].up is False)
            took = time.monotonic() - began
            answer = await client.post("/api/chat", json=CHAT)
    assert answer.headers["x-router-server"] == "well"
    assert took <= 1.1 * interval + 3 * timeout + 2 * interval + 1.5  # a busy machine's grace


async def test_a_server_that_answers_again_is_back_after_two_probes(tmp_path: Path) -> None:
    """Not after the first."""
    async with (
        OllamaSimulator(models=MODELS) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, health_check_interval=0.2) as router,
    ):
        fleet = router.services.fleet
        sim.pause()
        sim.drop_connections()
        await eventually(lambda: fleet.snapshot.servers["one"].up is False)
        before = len(sim.requests_to("/api/version"))
        await sim.resume()
        await eventually(lambda: fleet.snapshot.servers["one"].up is True)
        assert len(sim.requests_to("/api/version")) >= before + 2


async def test_a_server_is_asked_at_once_when_somebody_asks_for_it(tmp_path: Path) -> None:
    """Its new model is known with the answer; one that is gone is told with the reason, and its state."""
    slow = {"health_check_interval": 60.0}
    async with (
        OllamaSimulator(models=MODELS) as sim,
        running_router(tmp_path, {"one": server_entry(sim), "off": server_entry(sim, enabled=False)}, **slow) as router,
        router.client(router.admin_token) as admin,
    ):
        before = len(sim.requests_to("/api/version"))
        told = (await admin.post("/router/servers/one/probe")).json()
        assert (told["answered"], told["state"], told["models"]) == (True, "up", 1)
        assert len(sim.requests_to("/api/version")) == before + 1
        sim.pause()
        sim.drop_connections()
        told = (await admin.post("/router/servers/one/probe")).json()
        assert (told["answered"], told["state"]) == (False, "down")
        assert told["error"]
        assert (await admin.post("/router/servers/off/probe")).json()[
            "error"
        ] == "it is not asked: the config disables it"
        assert (await admin.post("/router/servers/nobody/probe")).status_code == 404


async def test_a_reload_ends_a_question_that_is_still_open(tmp_path: Path) -> None:
    """Whoever asked gets an answer, not a connection that hangs."""
    async with (
        OllamaSimulator(models=MODELS) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, health_check_interval=60.0) as router,
    ):
        sim.misbehave(Silence(), path="/api/version")
        fleet = router.services.fleet
        asking = asyncio.create_task(fleet.probe("one"))
        await eventually(lambda: len(sim.requests_to("/api/version")) >= 2)
        await fleet.reconfigure(router.services.config)
        assert await asyncio.wait_for(asking, 10) == "the config has changed meanwhile"


async def test_a_list_of_models_that_does_not_arrive_from_others_is_asked_for() -> None:
    """Their rounds do, but the one with the list was too long to share: once it is overdue, not earlier."""
    async with OllamaSimulator(models=MODELS) as sim:
        config = Config.model_validate({"servers": {"one": server_entry(sim)}, "health_check_interval": 60.0})
        clock, upstream = FakeClock(), HttptoolsUpstream()
        fleet = FleetService(
            config=config, targets=build_targets(config, {}), upstream=upstream, clock=clock, coordination=alone()
        )
        await fleet.start()
        try:
            sim.library.add(model("llama3.1:8b").renamed("new:1b"))
            before = len(sim.requests_to("/api/version"))
            clock.advance(config.models.cache_ttl_seconds)
            fleet.follow([ServerPolled("one", Round(clock.now, 1.0, b'{"version": "0.33.3"}', (), {}))])
            for _ in range(100):  # within which a question would arrive
                await asyncio.sleep(0)
            assert len(sim.requests_to("/api/version")) == before
            clock.advance(2 * 60.0)
            fleet.follow([ServerPolled("one", Round(clock.now, 1.0, b'{"version": "0.33.3"}', (), {}))])
            await eventually(lambda: "new:1b" in (fleet.servers["one"].installed or ()))
            assert len(sim.requests_to("/api/version")) == before + 1
        finally:
            await fleet.aclose()
            await upstream.aclose()
