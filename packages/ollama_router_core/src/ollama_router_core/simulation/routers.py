"""Our own strategies in virtual time: the real `decide` and the real `Admission`, fed with what a router would see.

A load is seen to be over when the first byte of its answer comes, not when the simulated server knows; speeds are
learned from the metrics of finished jobs alone, and how long an answer will be is not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from msgspec import structs

from ollama_router_core import admission
from ollama_router_core.admission import Admission, Ticket
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config, StrategyName
from ollama_router_core.fleet.memory import GIB
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, LoadedModel, ServerFacts
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight
from ollama_router_core.routing.expected_time import BYTES_A_TOKEN
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.simulation.engine import Dispatch
from ollama_router_core.simulation.machine import Event, Machine, ServerState, Timing
from ollama_router_core.simulation.workload import Job, SimulatedModel

__all__ = ["StrategyRouter", "fleet_config"]

_PATIENCE = 1e9
"""A simulation measures waiting, so nobody is sent away."""


def fleet_config(machines: Iterable[Machine], strategy: StrategyName) -> Config:
    """The settings an operator would write for these machines."""
    servers = {
        machine.name: {
            "host": machine.name,
            "max_memory_gb": machine.vram_gib,
            "priority": machine.priority,
            "num_parallel": machine.num_parallel,
        }
        for machine in machines
    }
    queue = {"max_waiting": 10_000_000, "max_wait": _PATIENCE}
    return Config.model_validate({"servers": servers, "routing_strategy": strategy, "queue": queue})


class StrategyRouter:
    """A strategy of the product. `late=False` binds on arrival, by `decide` alone."""

    def __init__(self, strategy: StrategyName, machines: Sequence[Machine], *, late: bool = True) -> None:
        self.name: str = strategy if late else f"{strategy} on arrival"
        self._config = fleet_config(machines, strategy)
        self._late = late
        self._waits = late and STRATEGIES[strategy].binds_late
        self._admission = Admission(self._config)
        self._book = SpeedBook()
        self._snapshot = FleetSnapshot()
        self._installed: dict[CanonicalName, InstalledModel] = {}
        self._jobs: dict[int, Job] = {}
        self._began: dict[int, int] = {}
        self._turn = 0
        self._sizes: dict[str, dict[CanonicalName, int]] = {}

    def start(self, servers: Mapping[str, ServerState], models: Mapping[str, SimulatedModel]) -> None:
        """Every server has every model on disk; nothing is loaded and nothing is known about speeds."""
        self._sizes = {
            name: {model.name: round(state.machine.need(model) * GIB) for model in models.values()}
            for name, state in servers.items()
        }
        facts = {name: self._facts(name) for name in servers}
        self._snapshot = FleetSnapshot(servers=facts, speeds=self._book)

    def _facts(self, server: str) -> ServerFacts:
        installed = {
            model: InstalledModel(name=model, spelling=model, size=size, digest=f"sha256:{model}")
            for model, size in self._sizes[server].items()
        }
        self._installed.update(installed)
        return ServerFacts(name=server, up=True, installed=installed)

    def arrive(self, job: Job, now: float) -> Iterable[Dispatch]:
        """Ask for a server."""
        self._turn += 1
        self._jobs[job.number] = job
        request = RouteRequest(
            model_text=job.model,
            model=job.model,
            num_ctx=job.num_ctx,
            prompt_bytes=job.prompt_tokens * BYTES_A_TOKEN,
            needs=frozenset({"completion"}),
        )
        ticket = Ticket(number=job.number, request=request, arrived=now, user=job.user, tiebreak=self._turn)
        if not self._late:
            return self._bind(ticket, now)
        return self._sent(self._admission.arrive(ticket, self._snapshot, now))

    def _bind(self, ticket: Ticket, now: float) -> Iterable[Dispatch]:
        traffic = self._admission.traffic(self._snapshot, now)
        decision = self._admission.selector.decide(ticket.request, traffic, now=now, tiebreak=ticket.tiebreak)
        if decision.server is None:
            return ()
        self._admission.bound(ticket, decision.server, now)
        self._note_load(ticket.number, decision.server, now)
        return [Dispatch(self._jobs[ticket.number], decision.server)]

    def _sent(self, outcomes: Iterable[admission.Outcome]) -> list[Dispatch]:
        sent = [outcome for outcome in outcomes if isinstance(outcome, admission.Dispatch)]
        for outcome in sent:
            number = outcome.ticket.number
            self._note_load(number, outcome.server, outcome.ticket.arrived + outcome.waited)
            for model in outcome.unload:
                self._unloaded(outcome.server, model)
        return [Dispatch(self._jobs[one.ticket.number], one.server, one.unload) for one in sent]

    def _note_load(self, number: int, server: str, now: float) -> None:
        """Our own traffic shows a load before any poll does."""
        self._began[number] = self._admission.traffic(self._snapshot, now).in_flight.get(server, 1)
        job, facts = self._jobs[number], self._snapshot.servers[server]
        if self._waits:
            return  # who waits for a slot learns nothing from a load under way
        if job.model not in facts.loaded and job.model not in facts.loading:
            self._change(replace(facts, loading={**facts.loading, job.model: now}))

    def observe(self, server: str, event: Event, now: float) -> Iterable[Dispatch]:
        """First bytes, ends and expiries."""
        if event.kind == "unloaded":
            self._unloaded(server, CanonicalName(event.model))
            return self._sent(self._admission.changed(self._snapshot, now)) if self._late else ()
        if event.timing is None or event.kind == "loaded":
            return ()
        number = event.timing.job.number
        if event.kind == "first_token":
            self._loaded(server, event.timing.job, now)
            return self._sent(self._admission.first_byte(number, self._snapshot, now))
        self._learn(server, event.timing)
        return self._sent(self._admission.finished(number, self._snapshot, now))

    def _loaded(self, server: str, job: Job, now: float) -> None:
        facts = self._snapshot.servers[server]
        held = facts.loaded.get(job.model)
        if held is not None and held.context_length == job.num_ctx:
            return
        size = self._sizes[server][job.model]
        model = LoadedModel(
            name=job.model, size=size, size_vram=size, context_length=job.num_ctx, expires_at=now + 300.0
        )
        loading = {name: at for name, at in facts.loading.items() if name != job.model}
        self._change(replace(facts, loaded={**facts.loaded, job.model: model}, loading=loading, loaded_at=now))

    def _unloaded(self, server: str, model: CanonicalName) -> None:
        facts = self._snapshot.servers[server]
        if model in facts.loaded:
            loaded = {name: held for name, held in facts.loaded.items() if name != model}
            self._change(replace(facts, loaded=loaded))

    def _change(self, facts: ServerFacts) -> None:
        self._snapshot = self._snapshot.with_server(facts)

    def _learn(self, server: str, timing: Timing) -> None:
        job = timing.job
        running = self._admission.traffic(self._snapshot, timing.finished).in_flight.get(server, 1)
        sample = Sample(
            load_ns=round(timing.load * 1e9),
            prompt_tokens=job.prompt_tokens,
            prompt_ns=round((timing.first_token - timing.started) * 1e9),
            output_tokens=job.output_tokens,
            output_ns=round((timing.finished - timing.first_token) * 1e9),
            neighbours=(running + self._began.pop(job.number, 1)) / 2 - 1,
        )
        weight = model_weight(job.model, self._installed[job.model])
        self._book = self._book.observe(server, job.model, weight, sample)
        self._snapshot = structs.replace(self._snapshot, speeds=self._book)

    def changed(self, server: str, *, up: bool, lost: Sequence[Job], now: float) -> Iterable[Dispatch]:
        """A health check noticed."""
        facts = self._snapshot.servers[server]
        self._change(replace(facts, up=up, loaded={}, loading={}, error=None if up else "connection refused"))
        sent: list[Dispatch] = []
        for job in lost:
            sent += self._sent(self._admission.finished(job.number, self._snapshot, now))
        return [*sent, *self._sent(self._admission.changed(self._snapshot, now))]

    def wake_at(self, now: float) -> float:
        """Admission's own wish."""
        at = self._admission.next_tick(now) if self._late else None
        return math.inf if at is None else at

    def wake(self, now: float) -> Iterable[Dispatch]:
        """Time passed."""
        return self._sent(self._admission.tick(self._snapshot, now))
