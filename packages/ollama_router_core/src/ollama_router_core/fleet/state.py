"""What one router believes about its servers and has in flight there: facts, probes, breakers, speeds, prefixes.

The proxy and the client-side router hold one each; polling, clocks and locks are theirs. `now` is seconds of one
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
from ollama_router_core.fleet.slots import SlotBook, told_slots, without_reserved
from ollama_router_core.fleet.snapshot import EMPTY, FleetSnapshot, ServerFacts, stubs, unloaded
from ollama_router_core.fleet.speeds import Sample, SpeedBook
from ollama_router_core.fleet.summary import MOST_ROWS, Holding, Summary

__all__ = ["WHILE_LOADING", "FleetState"]

WHILE_LOADING = 1.0
"""Seconds until a server that loads a model for us is asked again: an answer in one piece begins when it ends."""
_REFRESH_SECONDS = 5.0
"""Seconds between two refreshes that requests for unknown models may ask for."""
_OK = 200


def _ignore(_: Notice) -> None:
    """Drop a notice."""


class FleetState:
    """The fleet as one router sees it. Not for two threads at once.

    Attributes:
        servers: facts by name of each enabled server; the mapping is replaced, never changed.
        health: breakers, the retry budget, drains.
        prefixes: which conversations' prompts servers still hold.
        prompts: how many tokens prompts are for each model.
        speeds: how fast servers are, as far as was learned.
        loads: models loaded and evicted since the start.
        in_flight: this process's requests; what `begin` and `end` count.
        runners: judges requests that wait for a first byte.
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
        """Take over another config: facts about servers that stay are kept, but not of those that `moved`.

        Names that the config drops are forgotten; requests in flight there are counted to their end. `renamed` has the
        names that servers had by those that they have now: whether one is up, its models and requests are known on.
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
        """Return the fleet as believed now.

        `elsewhere` counts the requests of other processes of the router by server, `reserved` the slots that they hold
        for requests that have waited longer than any here.
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
        """Return the servers that could be asked for a model: they have it, as far as is known."""
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
        """Take in a probe's answer; returns whether the server is worth asking for its models.

        It is up then, unless it answered for its models as no Ollama does and has to list them first.
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
        """Take in that a server that never listed its models answered for them as no Ollama does."""
        self._foreign.add(name)
        self.probe_failed(name, error, now=now, refused=True)

    def may_be_told(self, name: str) -> bool:
        """Say whether what another process learned of a server is as good as asking it: it answers here, too."""
        return name in self.servers and self._probes[name].trusted and name not in self._foreign

    def polled_elsewhere(self, name: str, found: Round, *, now: float) -> bool:
        """Take in a probe that another process sent; returns whether its round teaches anything here."""
        probed_at = self.servers[name].probed_at if self.may_be_told(name) else None
        if probed_at is None or found.at <= probed_at:
            return False
        return self.probe_answered(name, _OK, found.version, probe_ms=found.probe_ms, now=min(now, found.at))

    def probe_failed(self, name: str, error: str, *, now: float, refused: bool = False) -> None:
        """Take in a failed probe; `refused` means that the server did not accept the connection."""
        probe = self._probes[name]
        probe.failed(refused=refused)
        if not probe.up and self.servers[name].up is not False:
            self._notify(ServerDown(name, error))
            self.update(name, partial(observe_down, error=error, now=now), now)
        if probe.lost:
            self._notify(ServerLost(name))

    def probe_pause(self, name: str) -> float:
        """Return seconds until the next probe of a server; few while a load of ours has to be seen to end."""
        pause = self._probes[name].pause
        return min(pause, WHILE_LOADING) if self.servers[name].loading else pause

    # --- facts ------------------------------------------------------------------------------------------------------

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts], now: float) -> bool:
        """Replace the facts about a server; returns whether other models are now in its memory.

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
        """Have a server asked for its models with its next probe."""
        self.update(name, lambda facts: replace(facts, installed_at=None, loaded_at=None), now)

    def may_refresh(self, now: float) -> bool:
        """Say whether a request for an unknown model may have every server asked: once in five seconds."""
        if now - self._refreshed_at < _REFRESH_SECONDS:
            return False
        self._refreshed_at = now
        return True

    def is_stub(self, model: CanonicalName) -> bool:
        """Say whether some server has this model only as one of Ollama's hosted service."""
        if self._stubs is None:
            self._stubs = stubs(self.servers)
        return model in self._stubs

    # --- traffic ----------------------------------------------------------------------------------------------------

    def begin(self, name: str, model: CanonicalName | None = None) -> None:
        """Count a request that goes to a server, for a model."""
        self.in_flight.begin(name, model)

    def end(self, name: str, now: float, model: CanonicalName | None = None) -> None:
        """Count it out. With none left, nothing is being loaded there for us."""
        left, facts = self.in_flight.end(name, model), self.servers.get(name)
        if facts is not None and facts.loading and not left:
            self.update(name, observe_loads_ended, now)

    def running_for(self, name: str, model: CanonicalName) -> int:
        """Return those that the runner of a model serves there."""
        facts, active = self.servers.get(name), self.in_flight.beside(name)
        names = (model,) if facts is None else runner_names(facts, model)
        return sum([active.get(one, 0) for one in names])

    def permit(
        self, server: str, now: float, *, forced: bool = False, model: CanonicalName | None = None
    ) -> BreakerPermit | None:
        """Permit one request now, which needs a model of the server; see `Health.permit`."""
        if not self.health.troubled:
            return self.health.permit(server, (), now, model=model)
        holders = partial(self._holders, now=now)
        return self.health.permit(server, self._up(), now, forced=forced, model=model, holders=holders)

    def take_retry(self, waiting: int = 0) -> bool:
        """Take one retry if the budget has one; `waiting` requests count as in flight too.

        Return it with `health.retries.give_back`.
        """
        return self.health.retries.take(sum(self.in_flight.by_server.values()) + waiting)

    def sent(self, name: str, model: CanonicalName, load: Load, now: float) -> bool:
        """Note a request that needs a model in memory; returns whether it begins the only load there."""
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
        """Return the context in tokens that a server gives requests that ask for none, if its operator told it."""
        settings = self._config.servers.get(name)
        return None if settings is None else settings.default_context

    def evicted(self, name: str, model: CanonicalName, now: float) -> None:
        """Note that a model was unloaded to make room."""
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
            told = settings is not None and settings.num_parallel is not None
            self._slots.observe(name, sample.queued_ns, sample.whole_ns, sample.ahead, now, told=told)

    def summary(self) -> Summary:
        """Return what a router that comes now would take long to learn."""
        held = self.prefixes.latest(MOST_ROWS)
        return Summary(
            speeds=self.speeds.latest(MOST_ROWS),
            held=tuple(Holding(prefix.server, model, number, prefix.tokens) for number, prefix, model in held),
            suspended=self.health.suspensions(),
        )

    def recall(self, summary: Summary) -> None:
        """Take over what another router believed, but not of what was learned here."""
        self.speeds = self.speeds.over(summary.speeds)
        for held in summary.held:
            if self.prefixes.of(held.conversation) is None:
                self.holds(held.server, held.model, held.conversation, held.tokens)
        for one in summary.suspended:
            self.health.opened_elsewhere(one.server, until=one.until, ejections=one.ejections, refused=one.refused)

    def holds(self, name: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """Note that a server holds the prompt of a conversation's last turn."""
        settings, facts = self._config.servers.get(name), self.servers.get(name)
        if settings is not None and facts is not None:
            slots = self._slots.of(name, told_slots((facts.installed or EMPTY).get(model), settings))
            self.prefixes.answered(conversation, name, model, tokens=tokens, slots=slots)
