"""Baselines: common policies that bind a job to a server on arrival, and an unreachable lower bound."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from ollama_router_core.simulation.engine import Action, Dispatch, Rejection, Router
from ollama_router_core.simulation.residency import Event
from ollama_router_core.simulation.server_state import ServerState
from ollama_router_core.simulation.workload import Job, SimulatedModel

__all__ = ["BASELINES", "ImmediateRouter", "all_resident"]


class Pick(Protocol):
    """A policy that chooses among the servers that are up and can hold the job's model."""

    def __call__(self, able: Sequence[ServerState], job: Job, rng: random.Random, /) -> ServerState:
        """Choose the server."""


class ImmediateRouter(Router):
    """Dispatch each job on arrival; reject jobs that fit on no server."""

    def __init__(self, name: str, pick: Pick) -> None:
        self.name = name
        self._pick = pick
        self._rng = random.Random(0)  # noqa: S311 - seeded on purpose, nothing secret
        self._servers: Mapping[str, ServerState] = {}
        self._models: Mapping[str, SimulatedModel] = {}
        self._down: set[str] = set()

    def start(self, servers: Mapping[str, ServerState], models: Mapping[str, SimulatedModel]) -> None:
        """Store the fleet."""
        self._servers, self._models = servers, models

    def arrive(self, job: Job, now: float) -> Iterable[Action]:
        """Dispatch the job at once."""
        model = self._models[job.model]
        able = [
            server for name, server in self._servers.items() if name not in self._down and server.machine.holds(model)
        ]
        if not able:
            return [Rejection(job, "no_server_fits", now)]
        return [Dispatch(job, self._pick(able, job, self._rng).machine.name)]

    def observe(self, _server: str, event: Event, now: float) -> Iterable[Action]:
        """Reject a job whose load failed."""
        failed = event.timing if event.kind == "failed" else None
        return () if failed is None else [Rejection(failed.job, "load_failed", now)]

    def changed(self, server: str, *, up: bool, lost: Sequence[Job], now: float) -> Iterable[Action]:
        """Update a server's health at once, like a perfect health check, which favours the baselines."""
        del lost, now
        (self._down.discard if up else self._down.add)(server)
        return ()


def _random(able: Sequence[ServerState], _job: Job, rng: random.Random) -> ServerState:
    return rng.choice(able)


class _RoundRobin:
    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, able: Sequence[ServerState], _job: Job, _rng: random.Random) -> ServerState:
        self._turn += 1
        return able[self._turn % len(able)]


def _least_connections(able: Sequence[ServerState], _job: Job, rng: random.Random) -> ServerState:
    return min(able, key=lambda server: (server.in_flight, rng.random()))


def _power_of_two(able: Sequence[ServerState], job: Job, rng: random.Random) -> ServerState:
    return _least_connections(rng.sample(able, min(2, len(able))), job, rng)


def _sticky(able: Sequence[ServerState], job: Job, _rng: random.Random) -> ServerState:
    """Choose by rendezvous hashing: a model is always sent to the same available server."""
    return max(able, key=lambda server: zlib.crc32(f"{job.model} {server.machine.name}".encode()))


class _Soonest:
    """The policy of the earliest finish, by true speeds, lengths and load."""

    def __init__(self) -> None:
        self._free_at: dict[str, float] = {}

    def __call__(self, able: Sequence[ServerState], job: Job, _rng: random.Random) -> ServerState:
        ends = {server.machine.name: (self._end(server, job), server) for server in able}
        name, (end, server) = min(ends.items(), key=lambda item: (item[1][0], item[0]))
        self._free_at[name] = end
        return server

    def _end(self, server: ServerState, job: Job) -> float:
        machine, model = server.machine, server.model_of(job.model)
        work = machine.prefill_seconds(model, job.prompt_tokens) + machine.decode_seconds(model, job.output_tokens)
        return max(job.at, self._free_at.get(machine.name, 0.0)) + work


def _warm(server: ServerState, job: Job) -> bool:
    return server.runner_for(job) is not None


def _strict_priority(able: Sequence[ServerState], job: Job, rng: random.Random) -> ServerState:
    return min(able, key=lambda one: (one.machine.priority, not _warm(one, job), one.in_flight, rng.random()))


def _loaded_first(able: Sequence[ServerState], job: Job, rng: random.Random) -> ServerState:
    return min(able, key=lambda one: (not _warm(one, job), one.in_flight, rng.random()))


BASELINES: Mapping[str, Callable[[], ImmediateRouter]] = {
    "random": lambda: ImmediateRouter("random", _random),
    "round robin": lambda: ImmediateRouter("round robin", _RoundRobin()),
    "least connections": lambda: ImmediateRouter("least connections", _least_connections),
    "power of two": lambda: ImmediateRouter("power of two", _power_of_two),
    "sticky": lambda: ImmediateRouter("sticky", _sticky),
    "strict priority": lambda: ImmediateRouter("strict priority", _strict_priority),
    "loaded first": lambda: ImmediateRouter("loaded first", _loaded_first),
}
"""Factories of routers: a router has the state of one run."""


def all_resident() -> ImmediateRouter:
    """Build the router of the lower bound, for `resident` machines: no loads, true speeds, known lengths."""
    return ImmediateRouter("all resident", _Soonest())
