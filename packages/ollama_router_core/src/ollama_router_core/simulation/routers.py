"""The product's strategies in virtual time: the real `decide`, `Admission` and `FleetState`, with a router's inputs.

As in the product, servers are polled every `health_check_interval` seconds, and every second during a load; between
polls, the first byte of a response shows the end of its load. Speeds and prompt cache hits, which Ollama reports from
0.33.3 on, are learned only from the metrics of finished jobs; response lengths are unknown. Response timeouts are not
simulated, so waits have their full length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ollama_router_core import admission
from ollama_router_core.admission import Admission, Ticket
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config, StrategyName
from ollama_router_core.errors import Overloaded
from ollama_router_core.fleet.observations import observe_down, observe_load_finished, observe_unloaded, observe_version
from ollama_router_core.fleet.runners import Load
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.fleet.state import FleetState
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.simulation.engine import Action, Cancel, Dispatch, Rejection, Router
from ollama_router_core.simulation.polls import Polls
from ollama_router_core.simulation.residency import Event, Timing
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.server_state import ServerState
from ollama_router_core.simulation.workload import Job, SimulatedModel

__all__ = ["Knowledge", "StrategyRouter", "fleet_config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """A router's settings of its fleet; by default those that `orouter init` writes.

    `servers` are settings by server and `settings` those of the config, such as `queue`; `config` replaces both. Poll
    results are `late` seconds old. Initial speeds are `speed_error` times the true ones, unless it is None.
    """

    servers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: Config | None = None
    late: float = 0.0
    speed_error: float | None = None


def fleet_config(machines: Iterable[Machine], strategy: StrategyName, knows: Knowledge) -> Config:
    """Build the config that an operator would write for these machines."""
    if knows.config is not None:
        return knows.config.model_copy(update={"routing_strategy": strategy})
    servers = {
        one.name: {"host": one.name, "priority": one.priority, **knows.servers.get(one.name, {})} for one in machines
    }
    return Config.model_validate({**knows.settings, "servers": servers, "routing_strategy": strategy})


class StrategyRouter(Router):
    """A strategy of the product. `late=False` binds jobs on arrival, with `decide` only."""

    def __init__(
        self,
        strategy: StrategyName,
        machines: Sequence[Machine],
        *,
        late: bool = True,
        knowledge: Knowledge | None = None,
    ) -> None:
        self.name: str = strategy if late else f"{strategy} on arrival"
        self._knowledge = knowledge or Knowledge()
        self._config = fleet_config(machines, strategy, self._knowledge)
        self._late = late
        self._admission = Admission(self._config)
        self._fleet = FleetState(self._config)
        self._polls = Polls(self._config, self._knowledge.late)
        self._strategy = STRATEGIES[strategy]
        self._embeds: frozenset[str] = frozenset()
        self._jobs: dict[int, Job] = {}
        self._rankings: dict[int, list[str]] = {}
        self._began: dict[int, int] = {}
        self._ahead: dict[int, int] = {}
        self._loads: set[int] = set()
        self._turn = 0

    def start(self, servers: Mapping[str, ServerState], models: Mapping[str, SimulatedModel]) -> None:
        """Poll every server once; no model is loaded, and no speeds are known."""
        self._polls.start(servers, models)
        self._embeds = frozenset(name for name, model in models.items() if model.embeds)
        for name, state in servers.items():
            self._fleet.update(name, partial(observe_version, body=b"{}", probe_ms=1.0, now=0.0), 0.0)
            self._polls.ask(self._fleet, name, 0.0)
            if self._knowledge.speed_error is not None:
                for model in models.values():
                    self._mislead(state.machine, model, self._knowledge.speed_error)

    def _mislead(self, machine: Machine, model: SimulatedModel, error: float) -> None:
        def wrong(seconds: float) -> int:
            return round(seconds / error * 1e9)

        sample = Sample(
            load_ns=wrong(machine.load_seconds(model)),
            prompt_tokens=1000,
            prompt_ns=wrong(machine.prefill_seconds(model, 1000)),
            output_tokens=100,
            output_ns=wrong(machine.decode_seconds(model, 100)),
        )
        for _ in range(5):
            self._fleet.learn(machine.name, model.name, sample, 0.0)

    def snapshot(self, now: float) -> FleetSnapshot:
        """Return the known state of the fleet."""
        return self._fleet.snapshot(now)

    # --- jobs ------------------------------------------------------------------------------------------------------

    def arrive(self, job: Job, now: float) -> Iterable[Action]:
        """Request a server for the job."""
        self._turn += 1
        self._jobs[job.number] = job
        request = RouteRequest(
            model_text=job.model,
            model=job.model,
            num_ctx=job.num_ctx,
            prompt_tokens=job.prompt_tokens,
            needs=frozenset({"embedding" if job.model in self._embeds else "completion"}),
        )
        ticket = Ticket(
            number=job.number,
            request=request,
            arrived=now,
            user=job.user,
            tiebreak=self._turn,
            conversation=hash(job.conversation) if job.conversation and self._strategy.uses_prefixes else None,
            batch=job.batch,
            preemptible=job.batch,
        )
        if not self._late:
            return self._bind(ticket, now)
        return self._actions(self._admission.arrive(ticket, self.snapshot(now), now), now)

    def _bind(self, ticket: Ticket, now: float) -> Iterable[Action]:
        traffic = self._admission.traffic(self.snapshot(now), now)
        decision = self._admission.selector.decide(
            ticket.request, traffic, now=now, tiebreak=ticket.tiebreak, prefix=traffic.held(ticket.conversation)
        )
        if decision.server is None:
            code = "no_server" if decision.error is None else decision.error.code
            return [Rejection(self._jobs[ticket.number], code, now)]
        self._admission.bound(ticket, decision.server, now)
        self._note_sent(ticket.number, decision.server, decision.ranking, now)
        return [Dispatch(self._jobs[ticket.number], decision.server)]

    def _actions(self, outcomes: Iterable[admission.Outcome], now: float) -> list[Action]:
        found: list[Action] = []
        for outcome in outcomes:
            job = self._jobs[outcome.ticket.number]
            if isinstance(outcome, admission.Refusal):
                waits = isinstance(outcome.error, Overloaded)
                found.append(Rejection(job, outcome.error.code, now, self._config.queue.max_wait if waits else 0.0))
                continue
            if isinstance(outcome, admission.Preempt):
                found += self._preempt(job, outcome.server, now)
                continue
            for model in outcome.unload:
                self._fleet.evicted(outcome.server, model, now)
            self._note_sent(job.number, outcome.server, outcome.ranking, now)
            found.append(Dispatch(job, outcome.server, outcome.unload))
        return found

    def _preempt(self, job: Job, server: str, now: float) -> list[Action]:
        """Preempt a job: cancel it and return it to the queue."""
        self._fleet.end(server, now, job.model)
        self._loads.discard(job.number)
        outcomes = self._admission.preempted(job.number, self.snapshot(now), now)
        return [Cancel(job, server), *self._actions(outcomes, now)]

    def _note_sent(self, number: int, server: str, ranking: Sequence[str], now: float) -> None:
        """Record a dispatched job, whose load is known before any poll."""
        job = self._jobs[number]
        self._fleet.health.models.take(server, job.model, now)
        self._rankings[number] = [name for name in ranking if name != server]
        self._ahead[number] = self._fleet.running_for(server, job.model)
        self._fleet.begin(server, job.model)
        self._began[number] = self._fleet.in_flight.running(server)
        if self._fleet.sent(server, job.model, Load(job.num_ctx), now):
            self._loads.add(number)
            self._polls.load_begun(server, now)

    # --- servers ---------------------------------------------------------------------------------------------------

    def observe(self, server: str, event: Event, now: float) -> Iterable[Action]:
        """Handle first bytes, ends and failures; loads and unloads are detected by polls."""
        timing = event.timing
        if timing is None or event.kind in {"loaded", "unloaded"}:
            return ()
        number = timing.job.number
        if event.kind == "first_token":
            if not timing.job.streamed:
                return ()
            seen = partial(observe_load_finished, name=timing.job.model, load=Load(timing.job.num_ctx), now=now)
            loaded = self._fleet.update(server, seen, now)
            actions = self._actions(self._admission.first_byte(number, self.snapshot(now), now), now)
            return [*actions, *self._ask(server, now)] if loaded else actions
        if event.kind == "failed":
            return self._next_server(timing.job, server, now)
        self._fleet.health.models.succeeded(server, timing.job.model)
        self._learn(server, timing)
        self._fleet.end(server, now, timing.job.model)
        return self._actions(self._admission.finished(number, self.snapshot(now), now), now)

    def _next_server(self, job: Job, server: str, now: float) -> Iterable[Action]:
        """Send a job whose load failed to the next server of its ranking, and suspend the model on this server."""
        self._fleet.end(server, now, job.model)
        self._fleet.update(server, partial(observe_unloaded, name=job.model, now=now), now)
        self._fleet.health.models.failed(server, job.model, "the load failed", now, at_once=True)
        ranking = self._rankings[job.number]
        if not ranking:
            sent = self._actions(self._admission.finished(job.number, self.snapshot(now), now), now)
            return [Rejection(job, "load_failed", now), *sent]
        name = ranking.pop(0)
        self._admission.moved(job.number, name, now)
        self._note_sent(job.number, name, ranking, now)
        return [Dispatch(job, name), *self._actions(self._admission.changed(self.snapshot(now), now), now)]

    def _learn(self, server: str, timing: Timing) -> None:
        job = timing.job
        loaded = job.number in self._loads
        self._loads.discard(job.number)
        sample = Sample(
            load_ns=round(timing.load * 1e9) if loaded else 0,
            prompt_tokens=job.prompt_tokens - timing.cached,
            prompt_ns=round((timing.first_token - timing.started) * 1e9),
            output_tokens=job.output_tokens,
            output_ns=round((timing.finished - timing.first_token) * 1e9),
            neighbours=(self._fleet.in_flight.running(server) + self._began.pop(job.number, 1)) / 2 - 1,
            queued_ns=round((timing.started - timing.sent - timing.load_wait) * 1e9),
            whole_ns=round((timing.finished - timing.sent) * 1e9),
            ahead=self._ahead.pop(job.number, 0),
        )
        self._fleet.learn(server, job.model, sample, timing.finished)
        if job.conversation and self._strategy.uses_prefixes:
            conversation, tokens = hash(job.conversation), job.prompt_tokens + job.output_tokens
            self._fleet.prefixes.was_cached(conversation, server, timing.cached)
            self._fleet.holds(server, CanonicalName(job.model), conversation, tokens)

    def changed(self, server: str, *, up: bool, lost: Sequence[Job], now: float) -> Iterable[Action]:
        """Record a health check."""
        if up:
            self._fleet.update(server, partial(observe_version, body=b"{}", probe_ms=1.0, now=now), now)
            self._polls.ask(self._fleet, server, now)
        else:
            self._fleet.update(server, partial(observe_down, error="connection refused", now=now), now)
        sent: list[Action] = []
        for job in lost:
            self._fleet.end(server, now, job.model)
            sent += self._actions(self._admission.finished(job.number, self.snapshot(now), now), now)
        return [*sent, *self._actions(self._admission.changed(self.snapshot(now), now), now)]

    # --- time ------------------------------------------------------------------------------------------------------

    def wake_at(self, now: float) -> float:
        """Return the time of the next admission tick or poll."""
        at = self._admission.next_tick(now) if self._late else None
        return min(self._polls.next_at, math.inf if at is None else at)

    def _ask(self, server: str, now: float) -> list[Action]:
        """Poll a server, when due or after a response that shows a change."""
        self._polls.ask(self._fleet, server, now)
        return self._actions(self._admission.changed(self.snapshot(now), now), now)

    def wake(self, now: float) -> Iterable[Action]:
        """Run due polls and admission ticks."""
        actions: list[Action] = []
        for name in self._polls.due(now):
            actions += self._ask(name, now)
        at = self._admission.next_tick(now) if self._late else None
        if at is not None and at <= now:
            actions += self._actions(self._admission.tick(self.snapshot(now), now), now)
        return actions
