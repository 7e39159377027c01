"""The scenarios for evaluating routing.

A: arrivals and tokens of a trace, twelve models by weights 1/rank, five different servers. B: the same with `mid1` down
for ten minutes. C: three applications with different contexts on the four most popular models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.simulation.engine import Outage, Slowdown
from ollama_router_core.simulation.routers import Knowledge
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import (
    Job,
    SimulatedModel,
    assign_contexts,
    assign_models,
    parse_trace,
    zipf_weights,
)

__all__ = ["FLEET", "MODELS", "Scenario", "ScenarioName", "make_scenario"]

ScenarioName = Literal["A", "B", "C"]

_TABLE = (
    ("8b", 8, 4.7), ("7b", 7, 4.4), ("3b", 3, 2.0), ("14b", 14, 9.0), ("4b", 4, 2.8), ("12b", 12, 7.6),
    ("8c", 8, 4.9), ("1.5b", 1.5, 1.1), ("20b", 20, 13.0), ("32b", 32, 20.0), ("27b", 27, 17.0), ("70b", 70, 40.0),
)  # fmt: skip

MODELS = tuple(
    SimulatedModel(name=canonical_name(name), billions=billions, weights_gib=gib) for name, billions, gib in _TABLE
)
"""The models, most popular first."""

FLEET = (
    Machine(name="big", vram_gib=48, bandwidth=900, tflops=80, load_rate=3.0, priority=1),
    Machine(name="mid1", vram_gib=24, bandwidth=900, tflops=60, load_rate=2.0, priority=2),
    Machine(name="mid2", vram_gib=24, bandwidth=700, tflops=45, load_rate=1.5, priority=2),
    Machine(name="old", vram_gib=16, bandwidth=320, tflops=20, load_rate=1.0, priority=3),
    Machine(name="mac", vram_gib=8, bandwidth=225, tflops=12, load_rate=1.0, priority=4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A fleet, its jobs, a router's knowledge of it, outages and slowdowns."""

    name: str
    machines: tuple[Machine, ...]
    models: tuple[SimulatedModel, ...]
    jobs: tuple[Job, ...]
    outages: tuple[Outage, ...] = ()
    slowdowns: tuple[Slowdown, ...] = ()
    knowledge: Knowledge = field(default_factory=Knowledge)


def make_scenario(name: ScenarioName, trace: str, *, stretch: float = 4.0, seed: int = 1) -> Scenario:
    """Build a scenario from the text of a trace; the seed draws the models."""
    rng = random.Random(seed)  # noqa: S311 - seeded on purpose, nothing secret
    jobs = assign_models(parse_trace(trace, stretch=stretch), MODELS, zipf_weights(len(MODELS)), rng)
    outages: tuple[Outage, ...] = ()
    if name == "B":
        outages = (Outage(server="mid1", start=jobs[-1].at / 2 if jobs else 0.0, seconds=600.0),)
    if name == "C":
        jobs = assign_contexts(jobs, (model.name for model in MODELS[:4]), (4096, 8192, 16_384), rng)
    return Scenario(name=name, machines=FLEET, models=MODELS, jobs=jobs, outages=outages)
