"""What a router was told wrongly it knows better after fifty requests for each model of each server."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from ollama_router_core.fleet.memory.formulas import GIB
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.fleet.speeds import model_weight
from ollama_router_core.simulation.engine import Slowdown, simulate
from ollama_router_core.simulation.routers import Knowledge, StrategyRouter
from ollama_router_core.simulation.scenarios import MODELS
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import Job

CARD = Machine(name="card", vram_gib=24, bandwidth=900, tflops=60, load_rate=2.0)
SMALL, LARGE, THIRD = (next(one for one in MODELS if one.name == f"{name}:latest") for name in ("8b", "27b", "14b"))
REQUESTS = 50


def jobs(models: Iterable[str], count: int = REQUESTS, every: float = 6.0) -> list[Job]:
    """So many for each of the models, in pairs: overlapping answers tell the slots."""
    rng = random.Random(1)  # noqa: S311 - seeded on purpose, nothing secret
    names = [name for name in models for _ in range(count)]
    rng.shuffle(names)
    return [
        Job(
            number=number,
            at=number // 2 * 2 * every,
            model=name,
            prompt_tokens=rng.randint(300, 3000),
            output_tokens=rng.randint(20, 300),
        )
        for number, name in enumerate(names)
    ]


def learned(
    asked: list[Job], told: dict[str, object], machine: Machine = CARD, slow: float = 1.0, **knows: float
) -> FleetSnapshot:
    """What is believed after these requests, of a router that was told this."""
    knowledge = Knowledge(servers={"card": told}, **knows)
    router = StrategyRouter("fastest", [machine], knowledge=knowledge)
    slowdowns = [Slowdown(server="card", start=0.0, seconds=1e9, factor=slow)] if slow != 1.0 else []
    result = simulate(router, [machine], [SMALL, LARGE, THIRD], asked, slowdowns=slowdowns)
    assert not result.rejections
    return router.snapshot(max(one.finished for one in result.outcomes))


@pytest.mark.parametrize(("told", "real", "believed"), [(4, 1, 1), (4, 2, 2), (2, 2, None), (1, 4, None)])
def test_slots_are_learned_from_overlapping_answers(told: int, real: int, believed: int | None) -> None:
    """Fewer than were told; what was told is an upper bound, and right until a request had to wait."""
    machine = Machine(name="card", vram_gib=24, bandwidth=900, tflops=60, load_rate=2.0, num_parallel=real)
    snapshot = learned(jobs([SMALL.name], every=1.5), {"num_parallel": told}, machine)
    assert snapshot.parallel.get("card") == believed


@pytest.mark.parametrize("real", [1, 2, 4])
def test_untold_slots_are_learned_upward(real: int) -> None:
    """Nothing is told, and one more than was seen to begin at once is sent where requests would wait."""
    machine = Machine(name="card", vram_gib=24, bandwidth=900, tflops=60, load_rate=2.0, num_parallel=real)
    snapshot = learned(jobs([SMALL.name], every=1.5), {}, machine)
    assert (snapshot.parallel.get("card"), snapshot.proven.get("card")) == (real, real)


@pytest.mark.parametrize("told", [None, 27.0, 48.0])
def test_memory_is_learned_from_what_was_held_together(told: float | None) -> None:
    """24 GiB hold the large one alone, or two others: what was told too high is corrected."""
    snapshot = learned(jobs([SMALL.name, LARGE.name, THIRD.name], every=12.0), {"max_memory_gb": told})
    room = snapshot.servers["card"].capacity.room(None if told is None else round(told * GIB))
    assert room.is_known
    assert room.limit <= 24.0 * GIB * 1.04
    assert not room.fits(round(LARGE.weights_gib * 1.15 * GIB), round(SMALL.weights_gib * 1.15 * GIB), 1)


@pytest.mark.parametrize("error", [None, 0.5, 2.0])
@pytest.mark.parametrize("slow", [1.0, 3.0])
def test_speeds_are_learned(error: float | None, slow: float) -> None:
    """Loading, reading and writing within a fifth of the truth, whatever was believed at the start."""
    snapshot = learned(jobs([SMALL.name, LARGE.name], every=30.0 * slow), {}, slow=slow, speed_error=error)
    assert snapshot.speeds is not None
    for model in (SMALL, LARGE):
        row = (snapshot.servers["card"].installed or {})[model.name]
        speed = snapshot.speeds.expect("card", model.name, model_weight(model.name, row))
        assert speed.load_seconds == pytest.approx(CARD.load_seconds(model) * slow, rel=0.2)
        assert 1000 / speed.prefill_rate == pytest.approx(CARD.prefill_seconds(model, 1000) * slow, rel=0.2)
        assert 100 / speed.decode_rate == pytest.approx(CARD.decode_seconds(model, 100) * slow, rel=0.2)


@pytest.mark.parametrize(("told", "real", "finds"), [(2, 2, 1.0), (4, 1, 0.0)])
def test_what_a_cache_holds_of_a_conversation_is_learned(told: int, real: int, finds: float) -> None:
    """Two conversations take turns: with a slot each they find all that was said, in the only one nothing of it."""
    turns = [
        replace(one, at=60.0 * one.number, prompt_tokens=1000 + 200 * one.number, conversation="ab"[one.number % 2])
        for one in jobs([SMALL.name], count=24)
    ]
    snapshot = learned(turns, {"num_parallel": told}, replace(CARD, num_parallel=real))
    for last in turns[-2:]:
        prefix = snapshot.held(hash(last.conversation))
        assert prefix is not None
        assert prefix.tokens / (last.prompt_tokens + last.output_tokens) == pytest.approx(finds, abs=0.1)


def test_a_load_that_fails_is_tried_less_and_less_often() -> None:
    """Every trial costs a request its load: in 75 s of need for a second copy there are a few, not one a load."""
    machines = [CARD, replace(CARD, name="bad", broken=frozenset({SMALL.name}))]
    asked = jobs([SMALL.name], every=1.5)
    result = simulate(StrategyRouter("fastest", machines), machines, [SMALL, LARGE, THIRD], asked)
    failed = [one for one in result.outcomes if one.tries > 1]
    assert not result.rejections
    assert 2 <= len(failed) <= 5
