"""The router's own requests in flight on each server."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from msgspec import Struct

from ollama_router_core.admission.tickets import Ticket
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.runners import runner_of
from ollama_router_core.fleet.snapshot import EMPTY, ServerFacts
from ollama_router_core.fleet.speeds import SHARING
from ollama_router_core.routing.candidates import RequestKind, kind_of

__all__ = ["InFlightTable", "Running", "ServerLoad"]


class Running(Struct, eq=False):
    """One request on a server: `work` seconds alone, after a load of `load` seconds; `answering` after its first byte.

    `preempted` once its preemption was requested.
    """

    ticket: Ticket
    kind: RequestKind
    since: float
    work: float
    load: float
    size: int = 0
    answering: bool = False
    preempted: bool = False

    def may_load(self, facts: ServerFacts, now: float) -> bool:
        """Whether its model may still be loading, before the response begins."""
        return now < self.since + self.load or not _shows(facts, self)


class ServerLoad(Struct, eq=False):
    """One server's running requests and, while a load is reserved, its kind and the models to evict.

    `ends` caches, by runner, each request's expected end and its minimum remaining seconds, until a request starts or
    ends.
    """

    running: dict[int, Running] = {}
    by_kind: dict[RequestKind, int] = {}
    reserved_for: RequestKind | None = None
    evicting: tuple[CanonicalName, ...] = ()
    ends: dict[Collection[CanonicalName], list[tuple[float, float]]] = {}

    @property
    def pace(self) -> float:
        """Slowdown factor of each request compared with running alone."""
        count = len(self.running)
        return float(count**SHARING) if count > 1 else 1.0

    @property
    def pace_with_one_more(self) -> float:
        """Slowdown factor with one more request."""
        return float((len(self.running) + 1) ** SHARING) if self.running else 1.0

    def loading(self, facts: ServerFacts, now: float) -> Running | None:
        """Find the request whose model is loading or waits for room: no response yet, and no report shows the model."""
        for running in self.running.values():
            if not running.answering and running.may_load(facts, now):
                return running
        return None

    def runs(self, model: CanonicalName) -> bool:
        """Whether a request for a model is running."""
        return any(kind.model == model for kind in self.by_kind)

    def running_of(self, models: Collection[CanonicalName]) -> int:
        """Count the running requests for any of these models."""
        return sum([count for kind, count in self.by_kind.items() if kind.model in models])

    def rest(self, model: CanonicalName, now: float) -> float:
        """Return the expected seconds until all requests of a model end; positive while any runs."""
        return max([max(end - now, least) for end, least in self._ends((model,))], default=0.0)

    def busy_for(self, models: Collection[CanonicalName], slots: int, now: float) -> float:
        """Return the expected seconds until one of `slots` slots of these models is free; 0 if one is."""
        ends = self.ends.get(models)
        if ends is None:
            ends = self.ends[models] = self._ends(models)
        if len(ends) < slots:
            return 0.0
        return min([max(end - now, least) for end, least in ends])

    def left(self, usual: float, now: float) -> list[tuple[CanonicalName | None, float]]:
        """Return the model of each running request and its expected remaining seconds.

        A request of unknown length counts as one of `usual` seconds.
        """
        return [(one.kind.model, self._left(one, usual, now)) for one in self.running.values()]

    def _left(self, running: Running, usual: float, now: float) -> float:
        work = running.work or usual
        return max(running.since + running.load + work * self.pace - now, 0.2 * work)

    def _ends(self, models: Collection[CanonicalName]) -> list[tuple[float, float]]:
        pace = self.pace
        return [
            (running.since + running.load + running.work * pace, 0.2 * running.work)
            for running in self.running.values()
            if running.kind.model in models
        ]


class InFlightTable:
    """The in-flight requests of every server."""

    def __init__(self) -> None:
        self.servers: dict[str, ServerLoad] = {}
        self._running: dict[RequestKind, dict[str, int]] = {}
        self._answering: dict[RequestKind, dict[str, int]] = {}
        self._at: dict[int, str] = {}
        self._counts: tuple[Mapping[str, int], Mapping[str, Mapping[CanonicalName, int]]] | None = None

    def __contains__(self, number: int) -> bool:
        return number in self._at

    def server(self, server: str) -> ServerLoad:
        """Return the load of one server, created on first use."""
        found = self.servers.get(server)
        if found is None:
            found = self.servers[server] = ServerLoad()
        return found

    def server_of(self, number: int) -> str | None:
        """Return the server on which a ticket runs."""
        return self._at.get(number)

    def start(
        self, ticket: Ticket, server: str, now: float, *, work: float = 0.0, load: float = 0.0, size: int = 0
    ) -> None:
        """Record a ticket as running on a server."""
        self._put(server, Running(ticket, kind_of(ticket.request), now, work, load, size))

    def _put(self, server: str, running: Running) -> None:
        number, kind = running.ticket.number, running.kind
        server_load = self.server(server)
        server_load.running[number] = running
        server_load.by_kind[kind] = server_load.by_kind.get(kind, 0) + 1
        server_load.ends.clear()
        self._at[number] = server
        self._counts = None
        _count(self._running, kind, server, 1)
        if running.answering:
            _count(self._answering, kind, server, 1)

    @contextmanager
    def without(self, number: int) -> Iterator[None]:
        """Remove a ticket from its server for the duration of the context."""
        found = self.end(number)
        try:
            yield
        finally:
            if found is not None:
                self._put(*found)

    def answered(self, number: int) -> None:
        """Record a ticket's first byte."""
        server = self._at.get(number)
        if server is None:
            return
        running = self.servers[server].running[number]
        if not running.answering:
            running.answering = True
            _count(self._answering, running.kind, server, 1)

    def end(self, number: int) -> tuple[str, Running] | None:
        """Remove a ticket; return its server and entry, None if it was on no server."""
        server = self._at.pop(number, None)
        if server is None:
            return None
        server_load = self.servers[server]
        running = server_load.running.pop(number)
        server_load.ends.clear()
        left = server_load.by_kind[running.kind] - 1
        if left:
            server_load.by_kind[running.kind] = left
        else:
            del server_load.by_kind[running.kind]
        self._counts = None
        _count(self._running, running.kind, server, -1)
        if running.answering:
            _count(self._answering, running.kind, server, -1)
        return server, running

    def running(self, kind: RequestKind) -> Mapping[str, int]:
        """Count the running requests of a kind by server."""
        return self._running.get(kind, EMPTY)

    def answering(self, kind: RequestKind) -> Mapping[str, int]:
        """Count the responses in progress of a kind by server; these servers have its model loaded."""
        return self._answering.get(kind, EMPTY)

    def counts(self) -> tuple[Mapping[str, int], Mapping[str, Mapping[CanonicalName, int]]]:
        """Return request counts by server, and by server and model (`FleetSnapshot.in_flight`, `.active`), cached."""
        if self._counts is None:
            in_flight: dict[str, int] = {}
            active: dict[str, dict[CanonicalName, int]] = {}
            for server, server_load in self.servers.items():
                if server_load.running:
                    in_flight[server] = len(server_load.running)
                    active[server] = _by_model(server_load)
            self._counts = in_flight, active
        return self._counts


def _count(counts: dict[RequestKind, dict[str, int]], kind: RequestKind, server: str, change: int) -> None:
    row = counts.get(kind)
    if row is None:
        row = counts[kind] = {}
    count = row.get(server, 0) + change
    if count:
        row[server] = count
        return
    del row[server]
    if not row:
        del counts[kind]


def _shows(facts: ServerFacts, running: Running) -> bool:
    """Whether a report since the request was sent shows its model in memory."""
    model = running.kind.model
    if running.load and (facts.loaded_at is None or facts.loaded_at <= running.since):
        return False
    return model is None or runner_of(facts, model) is not None


def _by_model(server_load: ServerLoad) -> dict[CanonicalName, int]:
    found: dict[CanonicalName, int] = {}
    for kind, count in server_load.by_kind.items():
        if kind.model is not None:
            found[kind.model] = found.get(kind.model, 0) + count
    return found
