"""`priority_with_memory` on a fleet whose preferred server is asked for more than it can do."""

from __future__ import annotations

from ollama_router_core.config.settings import StrategyName
from ollama_router_core.simulation.engine import simulate
from ollama_router_core.simulation.report import percentile
from ollama_router_core.simulation.routers import StrategyRouter
from ollama_router_core.simulation.scenarios import MODELS
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import Job

FIRST = Machine(name="first", vram_gib=24, bandwidth=900, tflops=60, load_rate=2.0, priority=1)
SECOND = Machine(name="second", vram_gib=24, bandwidth=700, tflops=45, load_rate=2.0, priority=2)
MODEL = next(one for one in MODELS if one.name == "8b:latest")


def served(every: float, strategy: StrategyName = "priority_with_memory", count: int = 60):
    """What becomes of requests that come so many seconds apart; one takes the first server about two."""
    jobs = [
        Job(number=number, at=number * every, model=MODEL.name, prompt_tokens=500, output_tokens=200, user="u")
        for number in range(count)
    ]
    machines = [FIRST, SECOND]
    return simulate(StrategyRouter(strategy, machines), machines, [MODEL], jobs).outcomes


def test_what_the_preferred_server_can_do_it_does():
    """The next one is not touched, as in the application that imported configs come from."""
    assert {one.server for one in served(every=8.0)} == {"first"}


def test_a_fleet_that_is_asked_for_more_helps_its_preferred_server():
    """The waits are those of a strategy that goes by load alone, and the preferred server does more."""
    ours, theirs = served(every=1.0), served(every=1.0, strategy="least_loaded")
    assert percentile([one.ttft for one in ours], 0.95) <= 1.2 * percentile([one.ttft for one in theirs], 0.95) + 1.0
    at_first = sum(one.server == "first" for one in ours)
    assert len(ours) / 2 < at_first < len(ours)
