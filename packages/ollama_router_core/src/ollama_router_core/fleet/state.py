"""The fleet state of one router: facts, probes, breakers, speeds, prefixes and requests in flight.

The proxy and the client-side router hold one each, and add polling, clocks and locks. `now` is in seconds of one
monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType

from msgspec.structs import replace

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.health import BreakerPermit, Health
from ollama_router_core.fleet.in_flight_counts import InFlightCounts
from ollama_router_core.fleet.load_counts import LoadCounts
from ollama_router_core.fleet.notices import Notice, ServerDown, ServerLost, ServerUp
from ollama_router_core.fleet.observations import (
    observe_down,
    observe_load_started,
    observe_loads_ended,
    observe_unloaded,
    observe_version,
)
from ollama_router_core.fleet.prefixes import Prefixes
from ollama_router_core.fleet.probes import ProbeState, probe_interval
from ollama_router_core.fleet.prompt_prices import PromptPrices
from ollama_router_core.fleet.rounds import Round
from ollama_router_core.fleet.runner_watch import RunnerWatch, weight_there
from ollama_router_core.fleet.runners import Load, misfit, runner_names, runner_of
from ollama_router_core.fleet.server_replies import version_fault
from ollama_router_core.fleet.slots import SlotBook, configured_slots, without_reserved
from ollama_router_core.fleet.snapshot import EMPTY, FleetSnapshot, ServerFacts, stubs, unloaded
from ollama_router_core.fleet.speeds import Sample, SpeedBook
from ollama_router_core.fleet.summary import MOST_ROWS, Holding, Summary

__all__ = ["WHILE_LOADING", "FleetState"]

WHILE_LOADING = 1.0
"""Seconds between polls of a server during a load, as a non-streamed response begins only at its end."""
_REFRESH_SECONDS = 5.0
"""Minimum seconds between refreshes for unknown models."""
_OK = 200


def _ignore(_: Notice) -> None:
    """Drop a notice."""


class FleetState:
    """The fleet state of one router. Not thread-safe.

    Attributes:
        servers: facts of each enabled server by name; the mapping is replaced, never mutated.
        health: breakers, the retry budget, drains.
        prefixes: the conversations whose prompts servers have cached.
        prompts: learned prompt token counts of each model.
        speeds: learned speeds of servers.
        loads: counts of models loaded and evicted since the start.
        in_flight: this process's requests, counted by `begin` and `end`.
        runners: detects stalled runners.
    """

    def __init__(self, config: Config, *, notify: Callable[[Notice], None] = _ignore) -> None:
        self._config = config
        self._notify = notify
        self.servers: Mapping[str, ServerFacts] = EMPTY
        self._probes: dict[str, ProbeState] = {}
        self._stubs: frozenset[CanonicalName] | None = None
        self._foreign: set[str] = set()
        self.in_flight = InFlightCounts()
        self._slots = SlotBook()
        self.speeds = SpeedBook()
        self._refreshed_at = float("-inf")
        self.health = Health(config, notify)
        self.prefixes = Prefixes()
        self.prompts = PromptPrices()
        self.loads = LoadCounts()
        self.runners = RunnerWatch(config, self.health, self)
        self._enlist(EMPTY)

    def reconfigure(self, config: Config, *, moved: Collection[str] = (), renamed: Mapping[str, str] = EMPTY) -> None:
        """Apply a new config; keep the facts of remaining servers, except those that `moved`.

        Removed servers are dropped; their requests in flight are counted to the end. `renamed` maps new server names to
        old ones: a renamed server keeps its facts and requests.
        """
        self._config = config
        self.in_flight.rename(renamed, config.servers.keys())
        self.health.reconfigure(config)
        self.runners.config = config
        known = {name: facts for name, facts in self.servers.items() if name not in moved}
        known |= {name: replace(self.servers[old], name=name) for name, old in renamed.items()}
        self._enlist(known)

    def _enlist(self, known: Mapping[str, ServerFacts]) -> None:
        enabled = [name for name, server in self._config.servers.items() if server.enabled]
        self.servers = MappingProxyType({name: known.get(name) or ServerFacts(name=name) for name in enabled})
        self._probes = {
            name: ProbeState(probe_interval(self._config, name), up=facts.up) for name, facts in self.servers.items()
        }
        self._foreign &= self.servers.keys()
        self._stubs = None

    def snapshot(
        self, now: float, elsewhere: Mapping[str, int] = EMPTY, reserved: Mapping[str, int] = EMPTY
    ) -> FleetSnapshot:
        """Return the current fleet state.

        `elsewhere` counts the requests of the router's other processes by server, `reserved` the slots reserved for
        requests there that have waited longer than any here.
        """
        health, counts = self.health, self.in_flight
        in_flight, active = counts.by_server.copy(), counts.by_model.copy()
        if counts.old_names:
            counts.add_former(in_flight, active)
        for name, count in elsewhere.items():
            in_flight[name] = in_flight.get(name, 0) + count
        troubled = health.troubled
        slots = health.slots(in_flight, now) if troubled else EMPTY
        return FleetSnapshot(
            servers=self.servers,
            in_flight=in_flight,
            elsewhere=elsewhere,
            active=active,
            suspended=health.suspended(self._up(), now) if troubled else EMPTY,
            suspended_models=health.models.suspended(partial(self._holders, now=now), now) if troubled else EMPTY,
            slots=without_reserved(slots, reserved, self._config.servers) if reserved else slots,
            parallel=self._slots.parallel,
            proven=self._slots.proven,
            draining=health.draining,
            speeds=self.speeds,
            prefixes=self.prefixes,
        )

    def _up(self) -> Collection[str]:
        return [name for name, facts in self.servers.items() if facts.up]

    def _holders(self, model: CanonicalName, now: float) -> Collection[str]:
        """Return the servers in service that have a model, or may have it."""
        suspended, draining = self.health.suspended(self._up(), now), self.health.draining
        return [
            name
            for name, facts in self.servers.items()
            if facts.up
            and name not in suspended
            and name not in draining
            and (facts.installed is None or model in facts.installed)
        ]

    # --- probes -----------------------------------------------------------------------------------------------------

    def probe_answered(self, name: str, status: int, body: bytes, *, probe_ms: float, now: float) -> bool:
        """Record a probe's reply; return whether to poll the server's models.

        The server is then up, unless it was found to be no Ollama and must list its models first.
        """
        if (error := version_fault(status, body)) is not None:
            self.probe_failed(name, error, now=now)
            return False
        probe = self._probes[name]
        probe.passed()
        if not probe.up:
            return False
        if name in self._foreign:
            return True
        returns = not self.servers[name].up
        self.update(name, partial(observe_version, body=body, probe_ms=probe_ms, now=now), now)
        if returns:
            self.health.models.forget(name)
            self._slots.forget(name)
            self.update(name, lambda facts: replace(facts, installed_at=None), now)
            self._notify(ServerUp(name, self.servers[name].version))
        return True

    def is_no_ollama(self, name: str, error: str, *, now: float) -> None:
        """Mark a server as no Ollama, as it never listed its models and its reply is no list."""
        self._foreign.add(name)
        self.probe_failed(name, error, now=now, refused=True)

    def may_be_told(self, name: str) -> bool:
        """Return whether another process's poll of a server is valid here: the server answers this process."""
        return name in self.servers and self._probes[name].trusted and name not in self._foreign

    def polled_elsewhere(self, name: str, found: Round, *, now: float) -> bool:
        """Record a probe by another process; return whether to apply its round."""
        probed_at = self.servers[name].probed_at if self.may_be_told(name) else None
        if probed_at is None or found.at <= probed_at:
            return False
        return self.probe_answered(name, _OK, found.version, probe_ms=found.probe_ms, now=min(now, found.at))

    def probe_failed(self, name: str, error: str, *, now: float, refused: bool = False) -> None:
        """Record a failed probe; `refused`: the server refused the connection."""
        probe = self._probes[name]
        probe.failed(refused=refused)
        if not probe.up and self.servers[name].up is not False:
            self._notify(ServerDown(name, error))
            self.update(name, partial(observe_down, error=error, now=now), now)
        if probe.lost:
            self._notify(ServerLost(name))

    def probe_pause(self, name: str) -> float:
        """Return seconds until the next probe of a server, shorter during a load."""
        pause = self._probes[name].pause
        return min(pause, WHILE_LOADING) if self.servers[name].loading else pause

    # --- facts ------------------------------------------------------------------------------------------------------

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts], now: float) -> bool:
        """Replace the facts of a server; return whether the models in its memory changed.

        Names of external hosts are ignored.
        """
        facts = self.servers.get(name)
        if facts is None:
            return False
        changed = change(facts)
        if name in self._foreign and changed.installed is not None:
            self._foreign.discard(name)
            changed = replace(changed, up=True, error=None)
            self._notify(ServerUp(name, changed.version))
        if changed is not facts:
            self.loads.seen(name, facts, changed, now=now)
            self.servers = MappingProxyType({**self.servers, name: changed})
            if changed.installed is not facts.installed:
                self._stubs = None
        if changed.loaded is facts.loaded:
            return False
        for model in unloaded(facts.loaded, changed.loaded):
            self.prefixes.forget_model(name, model)
        return True

    def lists_are_due(self, name: str, now: float) -> None:
        """Mark a server's model lists as stale, so that the next poll requests them."""
        self.update(name, lambda facts: replace(facts, installed_at=None, loaded_at=None), now)

    def may_refresh(self, now: float) -> bool:
        """Return whether a request for an unknown model may refresh all lists: once in five seconds."""
        if now - self._refreshed_at < _REFRESH_SECONDS:
            return False
        self._refreshed_at = now
        return True

    def is_stub(self, model: CanonicalName) -> bool:
        """Return whether some server has this model only as a stub of Ollama's hosted service."""
        if self._stubs is None:
            self._stubs = stubs(self.servers)
        return model in self._stubs

    # --- traffic ----------------------------------------------------------------------------------------------------

    def begin(self, name: str, model: CanonicalName | None = None) -> None:
        """Count a request for a model as in flight on a server."""
        self.in_flight.begin(name, model)

    def end(self, name: str, now: float, model: CanonicalName | None = None) -> None:
        """Count a request as ended; the last one ends all loads in progress there."""
        left, facts = self.in_flight.end(name, model), self.servers.get(name)
        if facts is not None and facts.loading and not left:
            self.update(name, observe_loads_ended, now)

    def running_for(self, name: str, model: CanonicalName) -> int:
        """Return the requests that a model's runner serves on a server."""
        facts, active = self.servers.get(name), self.in_flight.beside(name)
        names = (model,) if facts is None else runner_names(facts, model)
        return sum([active.get(one, 0) for one in names])

    def permit(
        self, server: str, now: float, *, forced: bool = False, model: CanonicalName | None = None
    ) -> BreakerPermit | None:
        """Permit one request for a model on a server now; see `Health.permit`."""
        if not self.health.troubled:
            return self.health.permit(server, (), now, model=model)
        holders = partial(self._holders, now=now)
        return self.health.permit(server, self._up(), now, forced=forced, model=model, holders=holders)

    def take_retry(self, waiting: int = 0) -> bool:
        """Take one retry if the budget allows; `waiting` requests count as in flight.

        Give it back with `health.retries.give_back`.
        """
        return self.health.retries.take(sum(self.in_flight.by_server.values()) + waiting)

    def sent(self, name: str, model: CanonicalName, load: Load, now: float) -> bool:
        """Record a sent request that needs a model in memory; return whether it starts the only load there."""
        facts = self.servers.get(name)
        if facts is None:
            return False
        default = self.default_context(name)
        held = runner_of(facts, model)
        if held is not None and misfit(facts, model, held, load, default) is None:
            return False
        started = partial(observe_load_started, name=model, now=now, load=load, default_context=default)
        self.update(name, started, now)
        return not facts.loading and bool(self.servers[name].loading)

    def default_context(self, name: str) -> int | None:
        """Return a server's configured default context in tokens, None if not configured."""
        settings = self._config.servers.get(name)
        return None if settings is None else settings.default_context

    def evicted(self, name: str, model: CanonicalName, now: float) -> None:
        """Record that a model was unloaded to make room."""
        self.loads.evicted(name)
        self.update(name, partial(observe_unloaded, name=model, now=now), now)

    def learn(self, name: str, model: CanonicalName, sample: Sample, now: float) -> None:
        """Learn speeds and slots from the metrics of a finished request."""
        facts = self.servers.get(name)
        if facts is None:
            return
        self.speeds = self.speeds.observe(name, model, weight_there(facts, model), sample)
        if sample.queued_ns is not None:
            settings = self._config.servers.get(name)
            configured = settings is not None and settings.num_parallel is not None
            self._slots.observe(name, sample.queued_ns, sample.whole_ns, sample.ahead, now, configured=configured)

    def summary(self) -> Summary:
        """Return the summary for a router that starts now."""
        held = self.prefixes.latest(MOST_ROWS)
        return Summary(
            speeds=self.speeds.latest(MOST_ROWS),
            held=tuple(Holding(prefix.server, model, number, prefix.tokens) for number, prefix, model in held),
            suspended=self.health.suspensions(),
        )

    def recall(self, summary: Summary) -> None:
        """Apply another router's summary, except where this router has learned its own values."""
        self.speeds = self.speeds.over(summary.speeds)
        for held in summary.held:
            if self.prefixes.of(held.conversation) is None:
                self.holds(held.server, held.model, held.conversation, held.tokens)
        for one in summary.suspended:
            self.health.opened_elsewhere(one.server, until=one.until, ejections=one.ejections, refused=one.refused)

    def holds(self, name: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """Record that a server has the prompt of a conversation's last turn cached."""
        settings, facts = self._config.servers.get(name), self.servers.get(name)
        if settings is not None and facts is not None:
            slots = self._slots.of(name, configured_slots((facts.installed or EMPTY).get(model), settings))
            self.prefixes.answered(conversation, name, model, tokens=tokens, slots=slots)
