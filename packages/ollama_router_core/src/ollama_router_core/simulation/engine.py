"""The event loop in virtual time: jobs arrive, a router dispatches them, servers process them."""

from __future__ import annotations

import heapq
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ollama_router_core.simulation.residency import Event, Timing
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.server_state import ServerState
from ollama_router_core.simulation.workload import Job, SimulatedModel

__all__ = ["Cancel", "Dispatch", "Outage", "Outcome", "Rejection", "Router", "SimulationResult", "Slowdown", "simulate"]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send a job to a server now, after unloading the models in `unload`."""

    job: Job
    server: str
    unload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Reject a job now. `reason` is the error's code; its text names a wait of `expected` seconds."""

    job: Job
    reason: str
    at: float
    expected: float = 0.0

    @property
    def wait(self) -> float:
        """The wait in seconds: until the rejection, or the expected wait if that is longer."""
        return max(self.at - self.job.at, self.expected)


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a job on a server; it will be dispatched again."""

    job: Job
    server: str


Action = Dispatch | Rejection | Cancel


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A server is down from `start` for `seconds`; its clients resend their jobs at once."""

    server: str
    start: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """A server is `factor` times as slow from `start` for `seconds`."""

    server: str
    start: float
    seconds: float
    factor: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a job: its server, times in seconds, seconds of loading, and attempts."""

    job: Job
    server: str
    sent: float
    first_token: float
    finished: float
    load: float
    tries: int = 1

    @property
    def ttft(self) -> float:
        """Seconds from arrival to the end of prefill."""
        return self.first_token - self.job.at

    @property
    def completion(self) -> float:
        """Seconds from arrival to the last token."""
        return self.finished - self.job.at


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """The results of a run.

    `busy` is the share of time in which servers ran or loaded any model, `busy_of` the mean share of all servers' time
    for each model: concurrent models on a server all count.
    """

    router: str
    outcomes: tuple[Outcome, ...]
    rejections: tuple[Rejection, ...]
    loads: int
    evictions: int
    busy: Mapping[str, float]
    loads_of: Mapping[str, int]
    busy_of: Mapping[str, float]

    @property
    def refused(self) -> int:
        """The number of rejected jobs."""
        return len(self.rejections)


class Router(Protocol):
    """The policy under test: it receives the events that a router would see, and returns actions.

    By default it acts only on arrivals.
    """

    name: str

    def start(self, servers: Mapping[str, ServerState], models: Mapping[str, SimulatedModel]) -> None:
        """Initialise with the fleet before the first job; the states are read-only."""
        del servers, models

    @abstractmethod
    def arrive(self, job: Job, now: float) -> Iterable[Action]:
        """Handle the arrival of a job."""

    def observe(self, _server: str, _event: Event, _now: float) -> Iterable[Action]:
        """Handle an event of a server."""
        return ()

    def changed(self, server: str, *, up: bool, lost: Sequence[Job], now: float) -> Iterable[Action]:
        """Handle a server that went down or recovered; `lost` jobs arrive again right after."""
        del server, up, lost, now
        return ()

    def wake_at(self, _now: float) -> float:
        """Return the time of the router's next timer; infinite for none."""
        return math.inf

    def wake(self, _now: float) -> Iterable[Action]:
        """Handle the timer of `wake_at`."""
        return ()


class _Run:
    """One simulation's mutable state."""

    def __init__(
        self, router: Router, machines: Sequence[Machine], models: Mapping[str, SimulatedModel], jobs: Sequence[Job]
    ) -> None:
        self.router = router
        self.servers = {machine.name: ServerState(machine, models.__getitem__) for machine in machines}
        self.heap: list[tuple[float, int, str]] = []
        self.version = dict.fromkeys(self.servers, 0)
        self.down: set[str] = set()
        self.jobs = jobs
        self.outcomes: list[Outcome] = []
        self.rejections: list[Rejection] = []
        self.tries: dict[int, int] = {}
        router.start(self.servers, models)

    def schedule(self, server: str) -> None:
        self.version[server] += 1
        at = self.servers[server].next_event()
        if at < math.inf:
            heapq.heappush(self.heap, (at, self.version[server], server))

    def next_server_event(self) -> tuple[float, str]:
        while self.heap and self.heap[0][1] != self.version[self.heap[0][2]]:
            heapq.heappop(self.heap)
        return (self.heap[0][0], self.heap[0][2]) if self.heap else (math.inf, "")

    @property
    def unanswered(self) -> int:
        return len(self.jobs) - len(self.outcomes) - len(self.rejections)

    def send(self, actions: Iterable[Action], now: float) -> None:
        for action in actions:
            if isinstance(action, Rejection):
                self.rejections.append(action)
                continue
            server = self.servers[action.server]
            if isinstance(action, Cancel):
                events = server.cancel(action.job, now)
            else:
                self.tries[action.job.number] = self.tries.get(action.job.number, 0) + 1
                events = [event for model in action.unload for event in server.unload(model, now)]
                events += server.submit(action.job, now)
            self.schedule(action.server)
            self.report(action.server, events, now)

    def report(self, server: str, events: Iterable[Event], now: float) -> None:
        for event in events:
            if event.kind == "finished" and event.timing is not None:
                self.outcomes.append(self.outcome(server, event.timing))
            self.send(self.router.observe(server, event, now), now)

    def outcome(self, server: str, timing: Timing) -> Outcome:
        return Outcome(
            job=timing.job,
            server=server,
            sent=timing.sent,
            first_token=timing.first_token,
            finished=timing.finished,
            load=timing.load,
            tries=self.tries[timing.job.number],
        )

    def step(self, server: str, now: float) -> None:
        events = self.servers[server].advance(now)
        self.schedule(server)
        self.report(server, events, now)

    def lose(self, server: str, now: float) -> None:
        self.report(server, self.servers[server].advance(now), now)
        lost = self.servers[server].fail()
        self.schedule(server)
        self.send(self.router.changed(server, up=False, lost=lost, now=now), now)
        for job in lost:
            self.send(self.router.arrive(job, now), now)

    def recover(self, server: str, now: float) -> None:
        self.report(server, self.servers[server].advance(now), now)
        self.send(self.router.changed(server, up=True, lost=(), now=now), now)

    def set_pace(self, server: str, slowness: float, now: float) -> None:
        self.report(server, self.servers[server].advance(now), now)
        self.servers[server].slowness = slowness
        self.schedule(server)


def simulate(
    router: Router,
    machines: Sequence[Machine],
    models: Iterable[SimulatedModel],
    jobs: Sequence[Job],
    *,
    outages: Sequence[Outage] = (),
    slowdowns: Sequence[Slowdown] = (),
    on_arrival: Callable[[], object] | None = None,
) -> SimulationResult:
    """Run until every job is finished or rejected. Deterministic.

    `on_arrival` is called for each arriving job, to report progress.

    Raises:
        RuntimeError: the router holds jobs that no event will dispatch.
    """
    run = _Run(router, machines, {model.name: model for model in models}, jobs)
    changes = _changes(run, outages, slowdowns)
    now, arrived, moved = 0.0, 0, 0.0
    while run.unanswered:
        at_server, server = run.next_server_event()
        at_arrival = jobs[arrived].at if arrived < len(jobs) else math.inf
        at_change = changes[0][0] if changes else math.inf
        at_wake = max(now, router.wake_at(now))
        now = min(at_server, at_arrival, at_change, at_wake)
        if now < at_wake:
            moved = now
        elif now == math.inf or now - moved > _STUCK:
            raise RuntimeError(f"{router.name} keeps {run.unanswered} jobs for ever")
        if at_server == now:
            run.step(server, now)
        elif at_change == now:
            _, _, change = changes.pop(0)
            change(now)
        elif at_arrival == now:
            arrived += 1
            if on_arrival is not None:
                on_arrival()
            run.send(router.arrive(jobs[arrived - 1], now), now)
        else:
            run.send(router.wake(now), now)
    return _result(run, now)


_STUCK = 86_400.0
"""Seconds with only the router's own timers after which a run counts as stuck."""

_Change = tuple[float, int, Callable[[float], None]]


def _changes(run: _Run, outages: Sequence[Outage], slowdowns: Sequence[Slowdown]) -> list[_Change]:
    """List the outages and slowdowns with their times, in order."""
    found: list[tuple[float, Callable[[float], None]]] = []
    for outage in outages:
        found.append((outage.start, partial(run.lose, outage.server)))
        found.append((outage.start + outage.seconds, partial(run.recover, outage.server)))
    for slow in slowdowns:
        found.append((slow.start, partial(run.set_pace, slow.server, slow.factor)))
        found.append((slow.start + slow.seconds, partial(run.set_pace, slow.server, 1.0)))
    return sorted((at, number, change) for number, (at, change) in enumerate(found))


def _result(run: _Run, now: float) -> SimulationResult:
    servers = run.servers.values()
    return SimulationResult(
        router=run.router.name,
        outcomes=tuple(sorted(run.outcomes, key=lambda one: one.job.number)),
        rejections=tuple(sorted(run.rejections, key=lambda one: one.job.number)),
        loads=sum(server.loads for server in servers),
        evictions=sum(server.evictions for server in servers),
        busy={server.machine.name: server.busy_seconds / now if now else 0.0 for server in servers},
        loads_of=sum((server.loads_of for server in servers), Counter()),
        busy_of=_busy_of(servers, now),
    )


def _busy_of(servers: Collection[ServerState], now: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for server in servers:
        for model, seconds in server.busy_seconds_of.items():
            found[model] = found.get(model, 0.0) + seconds
    return {model: seconds / (now * len(servers)) for model, seconds in sorted(found.items())}
