"""What people use today: policies that bind a job to a server on arrival."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from ollama_router_core.simulation.engine import Dispatch
from ollama_router_core.simulation.machine import Event, ServerState
from ollama_router_core.simulation.workload import Job, SimulatedModel

__all__ = ["BASELINES", "ImmediateRouter"]


class Pick(Protocol):
    """Chooses among the servers that are up and can hold the job's model."""

    def __call__(self, able: Sequence[ServerState], job: Job, rng: random.Random) -> ServerState:
        """The server."""


class ImmediateRouter:
    """Sends each job the moment it arrives; jobs that no server can hold are refused."""

    def __init__(self, name: str, pick: Pick, seed: int = 0) -> None:
        self.name = name
        self._pick = pick
        self._rng = random.Random(seed)  # noqa: S311 - seeded on purpose, nothing secret
        self._servers: Mapping[str, ServerState] = {}
        self._models: Mapping[str, SimulatedModel] = {}
        self._down: set[str] = set()

    def start(self, servers: Mapping[str, ServerState], models: Mapping[str, SimulatedModel]) -> None:
        """Remember the fleet."""
        self._servers, self._models = servers, models

    def arrive(self, job: Job, now: float) -> Iterable[Dispatch]:
        """Bind at once."""
        del now
        model = self._models[job.model]
        able = [
            server for name, server in self._servers.items() if name not in self._down and server.machine.holds(model)
        ]
        return [Dispatch(job, self._pick(able, job, self._rng).machine.name)] if able else []

    def observe(self, server: str, event: Event, now: float) -> Iterable[Dispatch]:
        """Nothing waits here."""
        del server, event, now
        return ()

    def changed(self, server: str, *, up: bool, lost: Sequence[Job], now: float) -> Iterable[Dispatch]:
        """A health check that sees everything at once: kinder to baselines than life is."""
        del lost, now
        (self._down.discard if up else self._down.add)(server)
        return ()

    def wake_at(self, now: float) -> float:
        """Never."""
        del now
        return math.inf

    def wake(self, now: float) -> Iterable[Dispatch]:
        """Nothing to do."""
        del now
        return ()


def _random(able: Sequence[ServerState], job: Job, rng: random.Random) -> ServerState:
    del job
    return rng.choice(able)


class _RoundRobin:
    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, able: Sequence[ServerState], job: Job, rng: random.Random) -> ServerState:
        del job, rng
        self._turn += 1
        return able[self._turn % len(able)]


def _least_connections(able: Sequence[ServerState], job: Job, rng: random.Random) -> ServerState:
    del job
    return min(able, key=lambda server: (server.in_flight, rng.random()))


def _warm(server: ServerState, job: Job) -> bool:
    held = server.loaded.get(job.model)
    return held is not None and held.num_ctx == job.num_ctx


def _strict_priority(able: Sequence[ServerState], job: Job, rng: random.Random) -> ServerState:
    return min(able, key=lambda one: (one.machine.priority, not _warm(one, job), one.in_flight, rng.random()))


def _loaded_first(able: Sequence[ServerState], job: Job, rng: random.Random) -> ServerState:
    return min(able, key=lambda one: (not _warm(one, job), one.in_flight, rng.random()))


BASELINES: Mapping[str, Callable[[], ImmediateRouter]] = {
    "random": lambda: ImmediateRouter("random", _random),
    "round robin": lambda: ImmediateRouter("round robin", _RoundRobin()),
    "least connections": lambda: ImmediateRouter("least connections", _least_connections),
    "strict priority": lambda: ImmediateRouter("strict priority", _strict_priority),
    "loaded first": lambda: ImmediateRouter("loaded first", _loaded_first),
}
"""Makers of fresh routers: a router keeps state over one run."""
