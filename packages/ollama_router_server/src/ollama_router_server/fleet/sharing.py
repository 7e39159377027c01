"""What a worker's fleet shares with those of the other workers: counts, reserved slots, drains, news."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import assert_never

from msgspec.structs import replace

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.prompts import PromptSize
from ollama_router_core.coordination import (
    NO_HEADS,
    BreakerClosed,
    BreakerOpened,
    Coordination,
    FactsChanged,
    LoadBegan,
    News,
    PrefixHeld,
    PromptCounted,
    PromptKept,
    RequestEnded,
    RequestsRefused,
    Scope,
    ServerPolled,
    ServerRenamed,
    SpeedLearned,
    TokenVerified,
    TurnsTaken,
    turn_of,
)
from ollama_router_core.fleet.notices import (
    ModelReturned,
    ModelSuspended,
    Notice,
    ServerDown,
    ServerLost,
    ServerReturned,
    ServerSuspended,
    ServerUp,
)
from ollama_router_core.fleet.rounds import Round
from ollama_router_core.fleet.runners import Load
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.fleet.state import FleetState
from ollama_router_server.fleet.server_leases import ServerLeases

__all__ = ["FleetSharing"]

_QUIET_SECONDS = 1.0
"""Seconds between two news of one subject: more would tell nothing, and workers must not echo each other."""
_MOST_SUBJECTS = 4096
_KEPT_SECONDS = 10.0
"""Seconds between two summaries for those that come."""
_KEPT_WHILE_RENAMED = 0.25
"""The same while processes take up another name of a server: they go by the former one for some seconds only."""


class FleetSharing:
    """One worker's side.

    `now` gives seconds of the clock that all workers of a machine have in common, `addresses` a hash of the address of
    each server, the same in all processes that reach it there.
    """

    def __init__(
        self,
        state: FleetState,
        coordination: Coordination,
        now: Callable[[], float],
        addresses: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._state = state
        self._addresses = addresses
        self._coordination = coordination
        self._now = now
        self._leases = ServerLeases(coordination, now)
        self._reserved: frozenset[str] = frozenset()
        self._told: dict[object, float] = {}
        self._remembered = float("-inf")
        self.with_others = coordination.shares
        """Whether there are, or may be, other workers."""

    # --- counts -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> FleetSnapshot:
        """Return the fleet with what the other workers have in flight and reserved."""
        if not self.with_others:
            return self._state.snapshot(self._now())
        names, elsewhere = self._state.servers, self._leases.elsewhere
        return self._state.snapshot(self._now(), elsewhere(Scope.SERVER, names), elsewhere(Scope.RESERVED, names))

    def begin(self, name: str) -> None:
        """Count a request that goes to a server; a slot that was reserved there is used."""
        self._leases.begin(name)
        self._use_reserved(name)

    def claim(self, name: str, limit: int, done: Callable[[bool], None], *, arrived: float | None = None) -> None:
        """Count a request that goes to a server if it has a slot free, of all processes' `limit`."""

        def answered(taken: bool) -> None:  # noqa: FBT001 - an answer
            if taken:
                self._use_reserved(name)
            done(taken)

        self._leases.claim(name, limit, answered, arrived=arrived)

    def _use_reserved(self, name: str) -> None:
        if self._leases.name_for_all(name) in self._reserved:
            self._reserve(frozenset())

    def end(self, name: str) -> None:
        """Count it out."""
        self._leases.end(name)

    def renamed(self, names: Mapping[str, str], *, taken: Collection[str] = ()) -> None:
        """Have servers count under their new names, and the others know of these; `names` has the old ones by them.

        Call it before the fleet's state takes up the new names. Requests that began under a name that another server
        has `taken` have to be `moved` after that.
        """
        if names:
            addresses = self._addresses()
            for new, old in self._leases.renamed(names, self._state.in_flight.former, taken=taken):
                self._coordination.tell(ServerRenamed(new, old, addresses.get(new, 0)))

    def moved(self, old: str, new: str) -> None:
        """Count a request under the name that its server has now."""
        self._leases.moved(old, new)

    def waits(self, since: float | None, servers: frozenset[str], heads: Mapping[str, float] = NO_HEADS) -> None:
        """Tell when the longest waiting request arrived here, and the full servers that could take it.

        `heads` tells when the one arrived that waits longest for each full server.

        In the worker whose request has waited longest of all, a slot of these servers is reserved: the others see one
        slot less, so the request gets the next one.
        """
        first: dict[str, float] = {}
        for name, at in heads.items():  # two names of one server have one line
            shared = self._leases.name_for_all(name)
            first[shared] = min(at, first.get(shared, at))
        self._leases.settle()
        self._coordination.waits(since, first)
        mine = self.with_others and self._coordination.waits_longest()
        self._reserve(frozenset(map(self._leases.name_for_all, servers)) if mine else frozenset())

    def _reserve(self, servers: frozenset[str]) -> None:
        for name in self._reserved - servers:
            self._coordination.give_back(Scope.RESERVED, name)
        for name in servers - self._reserved:
            self._coordination.take(Scope.RESERVED, name)
        self._reserved = servers

    # --- drains and news --------------------------------------------------------------------------------------------

    def drain(self, name: str, *, on: bool) -> None:
        """Have all workers begin or end a drain."""
        self._coordination.drain(name, on=on)

    def drained(self, name: str) -> bool | None:
        """Return what was last told about a server; None when nothing was."""
        return self._coordination.drained(name)

    def learned(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """Tell what a finished request says about a server's speed."""
        self._tell_about((server, model), SpeedLearned(server, model, sample))

    def counted(self, model: CanonicalName, size: PromptSize, tokens: int) -> None:
        """Tell how many tokens a prompt was."""
        self._tell_about(("prompt", model), PromptCounted(model, size, tokens))

    def loading(self, server: str, model: CanonicalName, load: Load) -> None:
        """Tell that a server has to load a model, so that the others need not send there what would load it again."""
        self._tell_about(("load", server, model), LoadBegan(server, model, load))

    def held(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """Tell that a server holds the prompt of a conversation's last turn."""
        self._tell_about(conversation, PrefixHeld(server, model, conversation, tokens))

    def kept(self, server: str, model: CanonicalName, part: float) -> None:
        """Tell which part of a conversation's last turn a server still had in its cache."""
        self._tell_about(("kept", server, model), PromptKept(server, model, part))

    # --- polls ------------------------------------------------------------------------------------------------------

    def turn(self, server: str) -> int:
        """Return how many other processes are to poll a server before this one; while they cannot be heard, none."""
        shared = self._coordination
        return 0 if shared.away or not self.with_others else turn_of(server, shared.members, shared.rank)

    def polled(self, server: str, found: Round) -> None:
        """Let the others have a server's answers; while they cannot hear, they ask for themselves."""
        if self.with_others and not self._coordination.away:
            self._coordination.tell(ServerPolled(server, found))

    # --- for those that come ------------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Keep what is believed here for those that come; one of all processes does so, now and then."""
        shared, now = self._coordination, self._now()
        pause = _KEPT_WHILE_RENAMED if self._leases.are_renamed else _KEPT_SECONDS
        if self.with_others and shared.rank == 0 and not shared.away and now - self._remembered >= pause:
            self._remembered = now
            addresses = {self._leases.name_for_all(name): address for name, address in self._addresses().items()}
            shared.remember(replace(self._state.summary(), addresses=addresses))

    def recall(self) -> None:
        """Take over what the others believed as this process came."""
        found = self._coordination.remembered() if self.with_others else None
        if found is not None:
            self._state.recall(found)
            self._known_otherwise(found.addresses)

    def _known_otherwise(self, addresses: Mapping[str, int]) -> None:
        """Take servers that the others know by another name for renamed: as if this process had had that name, too."""
        here, theirs = self._addresses(), {address: name for name, address in addresses.items()}
        unlike = {address: name for name, address in here.items() if addresses.get(name) != address}  # one name of each
        known = {name: theirs[address] for address, name in unlike.items() if address in theirs}
        names = {name: old for name, old in known.items() if here.get(old) != here[name]}
        for new, old in names.items():
            if old not in here and self.drained(old) and self.drained(new) is None:
                self.drain(new, on=True)
        self.renamed(names)

    # --- news -------------------------------------------------------------------------------------------------------

    def notice(self, notice: Notice) -> None:
        """Tell what the other workers need not find out again."""
        match notice:
            case ServerUp(server) | ServerDown(server):
                self._tell_about(server, FactsChanged(server))
            case ServerSuspended(server, until, _, ejections, refused):
                self._coordination.tell(BreakerOpened(server, until, ejections, refused))
            case ServerReturned(server):
                self._coordination.tell(BreakerClosed(server))
            case ServerLost():
                pass  # each worker believes its own failed probes only, and has requests of its own there
            case ModelSuspended() | ModelReturned():
                pass  # each worker finds it out with its first request, which the next server then answers
            case _:
                assert_never(notice)

    def hear(self, news: News) -> str | None:
        """Take in what another worker found out; returns a server that has to be asked again."""
        match news:
            case BreakerOpened() | BreakerClosed():
                self._hear_of_breaker(news)
            case SpeedLearned(server, model, sample):
                self._state.learn(server, model, sample, self._now())
            case LoadBegan(server, model, load):
                self._state.sent(server, model, load, self._now())
            case PrefixHeld(server, model, conversation, tokens):
                self._state.holds(server, model, conversation, tokens)
            case PromptKept(server, model, part):
                self._state.prefixes.kept(server, model, part)
            case PromptCounted(model, size, tokens):
                self._state.prompts.learn(model, size, tokens)
            case FactsChanged(server):
                return server if server in self._state.servers and self._is_quiet(server) else None
            case ServerRenamed(new, old, address):
                self._leases.renamed_elsewhere(new, old, self._named(new, address), self._state.in_flight.former)
            case ServerPolled() | TokenVerified() | RequestEnded() | RequestsRefused() | TurnsTaken():
                pass  # for those who poll, and not about servers
            case _:
                assert_never(news)
        return None

    def _named(self, new: str, address: int) -> Collection[str]:
        """Return names that the server may have here to which another process gave a new one."""
        there = [name for name, one in self._addresses().items() if one == address] if address else []
        return there or ((new,) if new in self._state.servers else self._state.servers)

    def _hear_of_breaker(self, news: BreakerOpened | BreakerClosed) -> None:
        match news:
            case BreakerOpened(server, until, ejections, refused):
                self._state.health.opened_elsewhere(server, until=until, ejections=ejections, refused=refused)
            case BreakerClosed(server):
                self._state.health.closed_elsewhere(server, self._now())

    def _tell_about(self, subject: object, news: News) -> None:
        if self.with_others and self._is_quiet(subject):
            self._coordination.tell(news)

    def _is_quiet(self, subject: object) -> bool:
        """Say whether there were no news of a subject for a second; from now on there were."""
        now = self._now()
        if now - self._told.get(subject, float("-inf")) < _QUIET_SECONDS:
            return False
        if len(self._told) >= _MOST_SUBJECTS:
            self._told.clear()
        self._told[subject] = now
        return True
