"""The state that a worker's fleet shares with the other workers: counts, reserved slots, drains, news."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import assert_never

from msgspec.structs import replace

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.prompts import PromptSize
from ollama_router_core.coordination.duties import turn_of
from ollama_router_core.coordination.interface import NO_HEADS, Coordination, Scope
from ollama_router_core.coordination.news import (
    BreakerClosed,
    BreakerOpened,
    FactsChanged,
    LoadBegan,
    News,
    PrefixHeld,
    PromptCounted,
    PromptKept,
    RequestEnded,
    RequestsRefused,
    ServerPolled,
    ServerRenamed,
    SpeedLearned,
    TokenVerified,
    TurnsTaken,
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
"""Minimum seconds between two news on one subject, so that workers do not echo each other."""
_MOST_SUBJECTS = 4096
_KEPT_SECONDS = 10.0
"""Seconds between two summaries for processes that start."""
_KEPT_WHILE_RENAMED = 0.25
"""The same while processes adopt a server's new name: they use the old one only for some seconds."""


class FleetSharing:
    """One worker's side of the sharing.

    `now` returns seconds of the clock that all workers of a machine share, `addresses` a hash of each server's address,
    equal in all processes that reach it there.
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
        self._sent_at: dict[object, float] = {}
        self._remembered = float("-inf")
        self.with_others = coordination.shares
        """Whether there are, or may be, other workers."""

    # --- counts -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> FleetSnapshot:
        """Return the fleet with the other workers' requests in flight and reserved slots."""
        if not self.with_others:
            return self._state.snapshot(self._now())
        names, elsewhere = self._state.servers, self._leases.elsewhere
        return self._state.snapshot(self._now(), elsewhere(Scope.SERVER, names), elsewhere(Scope.RESERVED, names))

    def begin(self, name: str) -> None:
        """Count a request to a server, and use a slot reserved there."""
        self._leases.begin(name)
        self._use_reserved(name)

    def claim(self, name: str, limit: int, done: Callable[[bool], None], *, arrived: float | None = None) -> None:
        """Count a request to a server if one of the `limit` slots for all processes is free."""

        def answered(taken: bool) -> None:  # noqa: FBT001 - an answer
            if taken:
                self._use_reserved(name)
            done(taken)

        self._leases.claim(name, limit, answered, arrived=arrived)

    def _use_reserved(self, name: str) -> None:
        if self._leases.name_for_all(name) in self._reserved:
            self._reserve(frozenset())

    def end(self, name: str) -> None:
        """Stop counting a request."""
        self._leases.end(name)

    def renamed(self, names: Mapping[str, str], *, taken: Collection[str] = ()) -> None:
        """Count servers under their new names, and send these to the others; `names` maps new names to old ones.

        Call it before the fleet's state adopts the new names. Requests that started under a name that another server
        has `taken` have to be `moved` afterwards.
        """
        if names:
            addresses = self._addresses()
            for new, old in self._leases.renamed(names, self._state.in_flight.former, taken=taken):
                self._coordination.tell(ServerRenamed(new, old, addresses.get(new, 0)))

    def moved(self, old: str, new: str) -> None:
        """Count a request under its server's new name."""
        self._leases.moved(old, new)

    def waits(self, since: float | None, servers: frozenset[str], heads: Mapping[str, float] = NO_HEADS) -> None:
        """Report when the longest waiting request arrived here, and the full servers that could serve it.

        `heads` maps each full server to the arrival of its longest waiting request.

        The worker whose request has waited longest of all reserves a slot of these servers: the others see one slot
        less, so that the request gets the next one.
        """
        first: dict[str, float] = {}
        for name, at in heads.items():  # two names of one server share a queue
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

    # --- learned from requests ----------------------------------------------------------------------------------------

    def learned(self, server: str, model: CanonicalName, sample: Sample) -> None:
        """Send what a finished request says about a server's speed."""
        self._send_news((server, model), SpeedLearned(server, model, sample))

    def counted(self, model: CanonicalName, size: PromptSize, tokens: int) -> None:
        """Send the token count of a prompt."""
        self._send_news(("prompt", model), PromptCounted(model, size, tokens))

    def loading(self, server: str, model: CanonicalName, load: Load) -> None:
        """Send that a server loads a model, so that the others do not send requests that would reload it."""
        self._send_news(("load", server, model), LoadBegan(server, model, load))

    def held(self, server: str, model: CanonicalName, conversation: int, tokens: int) -> None:
        """Send that a server holds the prompt of a conversation's last turn."""
        self._send_news(conversation, PrefixHeld(server, model, conversation, tokens))

    def kept(self, server: str, model: CanonicalName, part: float) -> None:
        """Send the fraction of a conversation's last turn that a server still had cached."""
        self._send_news(("kept", server, model), PromptKept(server, model, part))

    # --- polls ------------------------------------------------------------------------------------------------------

    def turn(self, server: str) -> int:
        """Return how many other processes poll a server before this one; 0 while coordination is unavailable."""
        shared = self._coordination
        return 0 if shared.away or not self.with_others else turn_of(server, shared.members, shared.rank)

    def polled(self, server: str, found: Round) -> None:
        """Send a server's answers to the others; without coordination, they poll themselves."""
        if self.with_others and not self._coordination.away:
            self._coordination.tell(ServerPolled(server, found))

    # --- for processes that start ------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Store the fleet's summary for processes that start; only the member of rank 0 does so, periodically."""
        shared, now = self._coordination, self._now()
        pause = _KEPT_WHILE_RENAMED if self._leases.are_renamed else _KEPT_SECONDS
        if self.with_others and shared.rank == 0 and not shared.away and now - self._remembered >= pause:
            self._remembered = now
            addresses = {self._leases.name_for_all(name): address for name, address in self._addresses().items()}
            shared.remember(replace(self._state.summary(), addresses=addresses))

    def recall(self) -> None:
        """Apply the summary that the others stored before this process started."""
        found = self._coordination.remembered() if self.with_others else None
        if found is not None:
            self._state.recall(found)
            self._known_otherwise(found.addresses)

    def _known_otherwise(self, addresses: Mapping[str, int]) -> None:
        """Treat servers that the others know by another name as renamed, as if this process had used that name."""
        here, theirs = self._addresses(), {address: name for name, address in addresses.items()}
        unlike = {address: name for name, address in here.items() if addresses.get(name) != address}  # one name of each
        known = {name: theirs[address] for address, name in unlike.items() if address in theirs}
        names = {name: old for name, old in known.items() if here.get(old) != here[name]}
        for new, old in names.items():
            if old not in here and self._coordination.drained(old) and self._coordination.drained(new) is None:
                self._coordination.drain(new, on=True)
        self.renamed(names)

    # --- news -------------------------------------------------------------------------------------------------------

    def notice(self, notice: Notice) -> None:
        """Send what the other workers need not detect again."""
        match notice:
            case ServerUp(server) | ServerDown(server):
                self._send_news(server, FactsChanged(server))
            case ServerSuspended(server, until, _, ejections, refused):
                self._coordination.tell(BreakerOpened(server, until, ejections, refused))
            case ServerReturned(server):
                self._coordination.tell(BreakerClosed(server))
            case ServerLost():
                pass  # each worker trusts only its own failed probes, and has requests of its own there
            case ModelSuspended() | ModelReturned():
                pass  # each worker detects it with its first request, which the next server then answers
            case _:
                assert_never(notice)

    def hear(self, news: News) -> str | None:
        """Apply another worker's news; return a server that has to be polled again, if any."""
        match news:
            case BreakerOpened() | BreakerClosed():
                self._apply_breaker(news)
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
                pass  # for other receivers, and not about servers
            case _:
                assert_never(news)
        return None

    def _named(self, new: str, address: int) -> Collection[str]:
        """Return the names here of the server that another process renamed."""
        there = [name for name, one in self._addresses().items() if one == address] if address else []
        return there or ((new,) if new in self._state.servers else self._state.servers)

    def _apply_breaker(self, news: BreakerOpened | BreakerClosed) -> None:
        match news:
            case BreakerOpened(server, until, ejections, refused):
                self._state.health.opened_elsewhere(server, until=until, ejections=ejections, refused=refused)
            case BreakerClosed(server):
                self._state.health.closed_elsewhere(server, self._now())

    def _send_news(self, subject: object, news: News) -> None:
        if self.with_others and self._is_quiet(subject):
            self._coordination.tell(news)

    def _is_quiet(self, subject: object) -> bool:
        """Return whether there were no news on a subject for a second, and note that there are now."""
        now = self._now()
        if now - self._sent_at.get(subject, float("-inf")) < _QUIET_SECONDS:
            return False
        if len(self._sent_at) >= _MOST_SUBJECTS:
            self._sent_at.clear()
        self._sent_at[subject] = now
        return True
