"""The server's fleet: the core's `FleetState` with polling tasks, logging, listeners and the other workers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.prompts import PromptSize
from ollama_router_core.config.settings import Config, Server
from ollama_router_core.coordination.interface import NO_HEADS, Coordination
from ollama_router_core.coordination.news import LoadBegan, News, ServerPolled
from ollama_router_core.errors import UpstreamTimeout
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.fleet.load_counts import LoadCounts
from ollama_router_core.fleet.load_probes import LoadProbe
from ollama_router_core.fleet.notices import Notice, ServerLost
from ollama_router_core.fleet.rounds import Round
from ollama_router_core.fleet.runners import Load
from ollama_router_core.fleet.snapshot import EMPTY, FleetSnapshot
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.fleet.state import FleetState
from ollama_router_server.fleet.fleet_events import FleetEvents
from ollama_router_server.fleet.fleet_log import log_drain, log_load_probe, log_notice, log_up
from ollama_router_server.fleet.health_checker import START_SECONDS, HealthChecker
from ollama_router_server.fleet.load_prober import LoadProber
from ollama_router_server.fleet.polling import Polling
from ollama_router_server.fleet.server_leases import address_hash
from ollama_router_server.fleet.sharing import FleetSharing
from ollama_router_server.fleet.state_times import StateTimes
from ollama_router_server.system import Clock
from ollama_router_server.upstream.interface import Upstream
from ollama_router_server.upstream.targets import Target

__all__ = ["FleetService"]


class FleetService(ClockedFleet):
    """One background task per server; `snapshot` is the current state.

    One process of a group polls each server, and the others use its answers. Requests in flight are counted together,
    drains apply to all, and what one process learns from its requests (server failures and recoveries, speeds) is sent
    to the others.
    """

    def __init__(
        self,
        *,
        config: Config,
        targets: Mapping[str, Target],
        upstream: Upstream,
        clock: Clock,
        coordination: Coordination,
    ) -> None:
        super().__init__(FleetState(config, notify=self._notice), clock.monotonic)
        self._config = config
        self._targets = targets
        self._upstream = upstream
        self._clock = clock
        self._sharing = FleetSharing(self.state, coordination, clock.monotonic, self._addresses)
        self._coordination = coordination
        self.events = FleetEvents()
        self.state_times = StateTimes(clock.wall)
        """Times since which servers are up, down, suspended or draining."""
        self._load_prober = LoadProber(targets, upstream, self._load_probe_ended)
        self._polling = Polling(config, self._new_checker)

    def _addresses(self) -> Mapping[str, int]:
        here = {name: self._targets[name] for name in self.servers if name in self._targets}
        return {name: address_hash(target.origin, self._coordination.secret) for name, target in here.items()}

    def _new_checker(self, config: Config) -> HealthChecker:
        return HealthChecker(
            config=config,
            targets=self._targets,
            upstream=self._upstream,
            clock=self._clock,
            state=self.state,
            book=self,
        )

    async def start(self, patience: float = START_SECONDS) -> None:
        """Start polling. Returns once every server has answered or failed, after at most `patience` seconds."""
        await self._polling.start(patience)
        self._sharing.recall()

    async def asked(self) -> None:
        """Wait, as `start` does, for the servers added by the last change of the config."""
        await self._polling.asked()

    async def aclose(self) -> None:
        """Stop polling."""
        await self._polling.aclose()
        await self._load_prober.aclose()

    def take_names(self, taken: Mapping[str, str]) -> None:
        """Count servers under names that other servers had; `taken` maps the new names to the servers' old names.

        Then `moved` their requests in flight, and call `reconfigure`.
        """
        self._sharing.renamed(taken, taken={*taken, *taken.values()})

    async def reconfigure(
        self,
        config: Config,
        *,
        moved: Collection[str] = (),
        renamed: Mapping[str, str] = EMPTY,
        taken: Mapping[str, str] = EMPTY,
    ) -> None:
        """Apply another config: keep facts about remaining servers, but not of those that `moved`.

        Dropped names are forgotten at once; requests in flight there run to their end. `renamed` maps the new names of
        servers to their old ones: their requests stay counted and drains continue. So do the requests of `taken`, as in
        `take_names`, but a drain stays with the name.
        """
        old, self._config = self._config.servers, config
        for name, server in config.servers.items():
            if name in old and old[name].drain != server.drain:
                self._coordination.drain(name, on=server.drain)
        drains = self._drains_that_go_on(old, config.servers, renamed)
        self._sharing.renamed(renamed)
        self.state.reconfigure(config, moved=moved, renamed={**renamed, **taken})
        for name, on in drains.items():
            if self._coordination.drained(name) is None:
                self.drain(name, on=on)
        self.forget_replies(self.servers.keys() - set(moved))
        self.state_times.reconfigure(self.servers)
        await self._polling.reconfigure(config)
        self.events.changed()

    def _drains_that_go_on(
        self, old: Mapping[str, Server], servers: Mapping[str, Server], renamed: Mapping[str, str]
    ) -> dict[str, bool]:
        """Return the drains to carry over to new names, except those that the config decides."""
        draining, found = self.health.draining, {}
        for name, before in renamed.items():
            on = before in draining
            if name in servers and old[before].drain == servers[name].drain != on:
                found[name] = on
        return found

    @property
    def snapshot(self) -> FleetSnapshot:
        """The current fleet, with the requests in flight of all workers."""
        return self._sharing.snapshot()

    @property
    def loads(self) -> LoadCounts:
        """Models loaded and evicted since start."""
        return self.state.loads

    def begin(self, name: str, model: CanonicalName | None = None) -> None:
        """Count a request to a server, for a model."""
        self.state.begin(name, model)
        self._sharing.begin(name)

    def claim(
        self,
        name: str,
        model: CanonicalName | None,
        limit: int,
        done: Callable[[bool], None],
        *,
        arrived: float | None = None,
    ) -> None:
        """Claim one of a server's `limit` slots in all routers; the request counts meanwhile and, if granted, after."""
        self.state.begin(name, model)

        def answered(taken: bool) -> None:  # noqa: FBT001 - an answer
            if not taken:
                self.state.end(name, self.now(), model)
            done(taken)

        self._sharing.claim(name, limit, answered, arrived=arrived)

    def end(self, name: str, model: CanonicalName | None = None) -> None:
        """Stop counting a request."""
        self.state.end(name, self.now(), model)
        self._sharing.end(name)

    def moved(self, old: str, new: str, model: CanonicalName | None = None) -> None:
        """Count a request under its server's new name."""
        super().moved(old, new, model)
        self._sharing.moved(old, new)

    def learn(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """Learn speeds and slots from the metrics of a finished request, for all workers."""
        super().learn(server, model, sample)
        self._sharing.learned(server, model, sample)

    def learn_prompt(self, model: CanonicalName, size: PromptSize, tokens: int) -> None:
        """Learn from a prompt's token count, for all workers."""
        super().learn_prompt(model, size, tokens)
        self._sharing.counted(model, size, tokens)

    def was_cached(self, conversation: int, server: str, tokens: int) -> None:
        """Learn how much of a conversation's last turn a server still had cached, for all workers."""
        learned = self.prefixes.was_cached(conversation, server, tokens)
        if learned is not None:
            self._sharing.kept(server, *learned)

    def holds(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """Note that a server holds the prompt of a conversation's last turn, for all workers."""
        super().holds(server, model, conversation, tokens)
        self._sharing.held(server, model, conversation, tokens)

    def sent(self, name: str, model: CanonicalName, load: Load) -> bool:
        """Note a request that needs a loaded model; return whether it starts the server's only load, to be watched."""
        loading = self._loading(name)
        begins = super().sent(name, model, load)
        if self._loading(name) != loading:
            self._sharing.loading(name, model, load)
        if begins:
            self._polling.checker.load_begun(name)
        return begins

    def _loading(self, name: str) -> Mapping[CanonicalName, object]:
        facts = self.servers.get(name)
        return {} if facts is None else facts.loading

    # --- polls ------------------------------------------------------------------------------------------------------

    def measure_soon(self, name: str) -> None:
        """Poll a server now, in the background: its loaded models have changed."""
        self._polling.checker.soon(name)

    async def probe(self, name: str) -> str | None:
        """Poll a server now, including its models; return the error, None if it answered."""
        self.state.lists_are_due(name, self.now())
        return await self._polling.checker.ask_now(name)

    def refresh_soon(self, name: str | None = None) -> None:
        """Poll the models of one server, or of all, now, in the background."""
        for server in self.servers if name is None else (name,):
            self._refresh(server)

    def _refresh(self, server: str) -> None:
        self.state.lists_are_due(server, self.now())
        self._polling.checker.soon(server)

    def polled(self, name: str, *, came_up: bool) -> None:
        """Note that a server was polled."""
        self._on_answer(name)
        self.events.changed()
        if came_up:
            log_up(name, self.servers[name])
            self.events.up(name)

    def _on_answer(self, name: str) -> None:
        """Check the requests that wait at a server which has just answered."""
        probe = self.load_probe_after_poll(name)
        if probe is not None:
            self._load_prober.begin(probe)
        self.events.polled(name)

    def _load_probe_ended(self, probe: LoadProbe, error: str | None) -> None:
        self.load_probe_ended(probe, error)
        log_load_probe(probe, error)
        self.events.changed()

    def turn(self, name: str) -> int:
        """Return how many other processes poll a server before this one."""
        return self._sharing.turn(name)

    def share(self, name: str, found: Round) -> None:
        """Share the answers of a polled server with the other processes."""
        self._sharing.polled(name, found)

    def _notice(self, notice: Notice) -> None:
        log_notice(notice)
        if isinstance(notice, ServerLost):
            self._give_up_waiting(notice.server)
        self.state_times.notice(notice)
        self._sharing.notice(notice)
        self.events.noticed(notice)

    def _give_up_waiting(self, server: str) -> None:
        """Fail the requests that wait for a server that has stopped answering; those that can are retried elsewhere."""
        target = self._targets.get(server)
        if target is not None:
            error = UpstreamTimeout(f"{server} stopped answering probes while the request was in flight", phase="probe")
            self._upstream.give_up(target.origin, error)

    # --- workers ----------------------------------------------------------------------------------------------------

    @property
    def shares(self) -> bool:
        """Whether other workers may free or take slots before this one notices."""
        return self._sharing.with_others

    def waits(self, since: float | None, servers: frozenset[str], heads: Mapping[str, float] = NO_HEADS) -> None:
        """Report when the longest waiting request arrived here, and the full servers that could serve it.

        `heads` maps each full server to the arrival of its longest waiting request.
        """
        self._sharing.waits(since, servers, heads)

    def drain(self, name: str, *, on: bool) -> None:
        """Start or end a drain in every worker: a drained server gets no new requests."""
        self._coordination.drain(name, on=on)
        self._drain(name, on=on)

    def _drain(self, name: str, *, on: bool) -> None:
        self.state_times.drained(name, on=on)
        self.health.drain(name, on=on)
        log_drain(name, on=on)
        self.events.changed()

    def follow(self, news: Collection[News]) -> None:
        """Apply the other workers' drains and news."""
        for name in self._config.servers:
            on = self._coordination.drained(name)
            if on is not None and on != (name in self.health.draining):
                self._drain(name, on=on)
        asked_again = [self._sharing.hear(one) for one in news]
        for one in news:
            if isinstance(one, ServerPolled) and self._polling.checker.heard(one.server, one.found):
                self._on_answer(one.server)
        for loading in {one.server for one in news if isinstance(one, LoadBegan) and self._loading(one.server)}:
            self._polling.checker.load_begun(loading)
        for server in asked_again:
            if server is not None:
                self._refresh(server)
        self._sharing.remember()
        if news:
            self.events.changed()
