"""Every key of the original's config acts, shown on a running router."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_router_core.testing import Delay, OllamaSimulator, Silence, model
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [], "stream": False}
MODELS = [model("llama3.1:8b")]


async def test_request_timeout_bounds_the_wait_for_the_first_byte(tmp_path: Path) -> None:
    """A server that stays silent is given up after `request_timeout`: 504, and no other server gets the request."""
    async with (
        OllamaSimulator(models=MODELS) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, request_timeout=0.3) as router,
        router.client() as client,
    ):
        sim.misbehave(Silence(), path="/api/chat")
        response = await client.post("/api/chat", json=CHAT)
        (row,) = await router.rows()
    assert (response.status_code, row.error_code) == (504, "upstream_timeout")


async def test_health_check_interval_paces_the_probes(tmp_path: Path) -> None:
    """A server is probed again after the interval, and not before."""
    async with (
        OllamaSimulator(models=MODELS) as often,
        OllamaSimulator(models=MODELS) as seldom,
        running_router(tmp_path, {"one": server_entry(often)}, health_check_interval=0.1),
    ):
        (tmp_path / "second").mkdir()
        async with running_router(tmp_path / "second", {"one": server_entry(seldom)}, health_check_interval=3600):
            await eventually(lambda: len(often.requests_to("/api/version")) >= 5)
            assert len(seldom.requests_to("/api/version")) == 1


@pytest.mark.parametrize(
    ("settings", "asked_again"),
    [
        ({"cache_model_info": True, "cache_ttl_seconds": 3600}, False),
        ({"cache_model_info": True, "cache_ttl_seconds": 0.2}, True),
        ({"cache_model_info": False, "cache_ttl_seconds": 3600}, True),
    ],
)
async def test_the_model_list_is_cached_as_configured(
    tmp_path: Path, settings: dict[str, object], asked_again: bool
) -> None:
    """`cache_ttl_seconds` is the age at which models are asked for again; without `cache_model_info` always."""
    async with (
        OllamaSimulator(models=MODELS) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, health_check_interval=0.1, model_config=settings),
    ):
        await eventually(lambda: len(sim.requests_to("/api/version")) >= 6)
        assert (len(sim.requests_to("/api/tags")) > 1) is asked_again


async def test_model_info_timeout_bounds_the_wait_for_facts(tmp_path: Path) -> None:
    """A server that never lists its models is given up on after `model_info_timeout`: its other facts are there."""
    async with OllamaSimulator(models=MODELS) as sim:
        sim.misbehave(Silence(), path="/api/tags")
        async with running_router(
            tmp_path, {"one": server_entry(sim)}, model_info_timeout=0.2, health_check_interval=0.2
        ) as router:
            await eventually(lambda: len(sim.requests_to("/api/tags")) > 1)
            facts = router.services.fleet.snapshot.servers["one"]
    assert (facts.up, facts.installed) == (True, None)


async def test_a_slow_server_is_chosen_only_when_nothing_else_is_left(tmp_path: Path) -> None:
    """`server_busy_threshold_ms`: the slow one has the better priority and is still the last choice."""
    async with OllamaSimulator(models=MODELS) as slow, OllamaSimulator(models=MODELS) as quick:
        slow.misbehave(Delay(seconds=0.4), path="/api/version")
        servers = {"slow": server_entry(slow, priority=1), "quick": server_entry(quick, priority=9)}
        async with (
            running_router(tmp_path, servers, server_busy_threshold_ms=300, health_check_interval=60) as router,
            router.client() as client,
        ):
            first = await client.post("/api/chat", json=CHAT)
            quick.pause()
            quick.drop_connections()
            second = await client.post("/api/chat", json=CHAT)
    assert first.headers["x-router-server"] == "quick"
    assert second.headers["x-router-server"] == "slow"
    assert "answers slowly" in second.headers["x-router-reason"]


async def test_an_assignment_beats_priority_and_memory(tmp_path: Path) -> None:
    """`explicit_assignments`, `priority` and `max_memory_gb` act together."""
    async with OllamaSimulator(models=MODELS) as big, OllamaSimulator(models=MODELS) as small:
        servers = {
            "big": server_entry(big, priority=2, max_memory_gb=None),
            "small": server_entry(small, priority=1, max_memory_gb=1),
        }
        (tmp_path / "second").mkdir()
        async with running_router(tmp_path, servers) as router, router.client() as client:
            by_memory = await client.post("/api/chat", json=CHAT)
        assigned = {"explicit_assignments": {"llama3.1:8b": "small"}}
        async with (
            running_router(tmp_path / "second", servers, model_config=assigned) as router,
            router.client() as client,
        ):
            by_assignment = await client.post("/api/chat", json=CHAT)
    assert by_memory.headers["x-router-server"] == "big"
    assert by_assignment.headers["x-router-server"] == "small"
    assert "explicit assignment" in by_assignment.headers["x-router-reason"]


async def test_the_memory_override_decides_over_the_server_s_report(tmp_path: Path) -> None:
    """`memory_overrides` in GiB beat what `/api/tags` says."""
    async with (
        OllamaSimulator(models=MODELS) as sim,
        running_router(
            tmp_path,
            {"one": server_entry(sim, max_memory_gb=24)},
            model_config={"memory_overrides": {"llama3.1:8b": 48}},
        ) as router,
        router.client() as client,
    ):
        response = await client.post("/api/chat", json=CHAT)
    assert response.status_code == 400
    assert "48.0 GiB" in json.loads(response.text)["error"]
