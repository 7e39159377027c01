"""What admission costs a request: `python benchmarks/admission.py`.

CPU microseconds a request (`process_time`, best of five rounds, so that a busy machine does not show) beside what
`decide` alone costs on the same fleet:

- `core`: `Admission.arrive` or `bound`, and `finished`, with nobody in the line;
- `server`: `AdmissionController.admit` and `ServerSlot.close`, with the first byte and the snapshot;
- `dispatch`: one event with 1,000 requests in the line on 20 servers, in milliseconds;
- `heads`: what other routers are told of the line with each change: 1,000 requests of 40 kinds, 20 and 100 servers.

`seen` is how many models were asked for of late.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from ollama_router_core.admission import Admission, Dispatch, Outcome, Ticket
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.api.strict_json import parse_object
from ollama_router_core.config.settings import Config
from ollama_router_core.exchange.actions import Admit
from ollama_router_core.exchange.admission_controller import AdmissionController
from ollama_router_core.exchange.server_slot import ServerSlot
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, LoadedModel, ServerFacts
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight
from ollama_router_core.routing.selector import ServerSelector
from ollama_router_server.coordination.alone import alone
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.system import SystemClock
from ollama_router_server.upstream.interface import Upstream

GIB = 1024**3
STRATEGIES = ("priority_with_memory", "fastest")
ROUNDS, REPEATS, TURNS = 5, 2000, 600
EVENTS = ("first byte", "facts change", "slot is free", "tick", "arrival")
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 800}] * 3}).encode()


def make_config(servers: int, strategy: str, *, most: int | None) -> Config:
    """Servers of equal size and speed."""
    return Config.model_validate(
        {
            "servers": {
                f"server{number}": {"host": "127.0.0.1", "max_memory_gb": 48.0, "max_concurrent": most}
                for number in range(servers)
            },
            "routing_strategy": strategy,
            "queue": {"max_waiting": 2000},
        }
    )


def make_facts(config: Config, models: int) -> tuple[dict[str, ServerFacts], list[RouteRequest], SpeedBook]:
    """Every server has every model and holds three of them; each holds the first."""
    installed = {
        canonical_name(name): InstalledModel(name=canonical_name(name), spelling=name, size=4 * GIB, digest=name)
        for name in (f"family:{number}b" for number in range(1, models + 1))
    }
    names = list(installed)
    facts, book = {}, SpeedBook()
    for number, server in enumerate(config.servers):
        held = {names[0], *(names[(number + step) % models] for step in (1, 2))}
        loaded = {name: LoadedModel(name=name, size=5 * GIB, size_vram=5 * GIB, context_length=4096) for name in held}
        facts[server] = ServerFacts(name=server, up=True, installed=installed, loaded=loaded)
        sample = Sample(prompt_tokens=1000, prompt_ns=10**9, output_tokens=100, output_ns=2 * 10**9)
        book = book.observe(server, names[0], model_weight(names[0], installed[names[0]]), sample)
    requests = [
        RouteRequest(model_text=name, model=name, prompt_tokens=1000, needs=frozenset({"completion"})) for name in names
    ]
    return facts, requests, book


def cost(step: Callable[[int], object], repeats: int = REPEATS) -> float:
    """CPU microseconds of one step: the best of some rounds."""
    found = []
    for _ in range(ROUNDS):
        gc.collect()
        start = time.process_time_ns()
        for turn in range(repeats):
            step(turn)
        found.append((time.process_time_ns() - start) / repeats / 1000)
    return min(found)


def core_cost(config: Config, snapshot: FleetSnapshot, requests: list[RouteRequest], seen: int) -> tuple[float, float]:
    """Of `decide` alone, and of admission with it."""
    admission = Admission(config)
    for request in requests[:seen]:
        ticket = Ticket(number=-1, request=request, arrived=0.0)
        admission.bound(ticket, "server0", 0.0)
        admission.finished(-1, snapshot, 0.0)
    request = requests[0]
    selector = ServerSelector(config)
    deciding = cost(lambda turn: selector.decide(request, snapshot, now=1.0, tiebreak=turn))

    def place(turn: int) -> None:
        ticket = Ticket(number=turn, request=request, arrived=1.0 + turn * 1e-3, user="u", tiebreak=turn)
        (outcome,) = admission.arrive(ticket, snapshot, ticket.arrived)
        assert isinstance(outcome, Dispatch)
        admission.first_byte(turn, snapshot, ticket.arrived)
        admission.finished(turn, snapshot, ticket.arrived)

    return deciding, cost(place)


def server_cost(config: Config, facts: dict[str, ServerFacts], requests: list[RouteRequest], book: SpeedBook) -> float:
    """Of the relay's calls, with the clock, the slot counts and the snapshot."""
    fleet = FleetService(config=config, targets={}, upstream=_Nowhere(), clock=SystemClock(), coordination=alone())
    for name, known in facts.items():
        fleet.update(name, partial(_always, known))
    fleet.state.speeds = book
    controller = AdmissionController(config, fleet, SystemClock().monotonic)
    request: Any = SimpleNamespace(route=requests[0], document=parse_object(BODY))

    async def run() -> float:
        found = []
        for _ in range(ROUNDS):
            start = time.process_time_ns()
            for _ in range(REPEATS):
                slot = controller.admit(Admit(request, "", None), _ignore)
                assert isinstance(slot, ServerSlot)
                slot.permit(slot.server)
                slot.answering()
                slot.close()
            found.append((time.process_time_ns() - start) / REPEATS / 1000)
        return min(found)

    return asyncio.run(run())


def _ignore() -> None:
    pass


def _always(known: ServerFacts, _: ServerFacts) -> ServerFacts:
    return known


class _Nowhere(Upstream):
    """An upstream that is never asked."""

    async def send(self, request: Any) -> Any:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


class Crowd:
    """1,000 requests of 40 kinds that wait for servers of two slots each."""

    WAITING = 1000

    def __init__(self, strategy: str, servers: int = 20) -> None:
        self.config = make_config(servers, strategy, most=2)
        facts, self.requests, book = make_facts(self.config, 40)
        self.snapshot = FleetSnapshot(servers=facts, speeds=book)
        self.admission = Admission(self.config)
        self.running: list[int] = []
        self.now = 0.0
        self._number = 0

    def arrive(self) -> None:
        """One more."""
        self._number += 1
        request, user = self.requests[self._number * 7 % 40], f"user{self._number % 25}"
        ticket = Ticket(number=self._number, request=request, arrived=self.now, user=user)
        self._note(self.admission.arrive(ticket, self.snapshot, self.now))

    def answers(self, number: int) -> None:
        """A first byte."""
        self._note(self.admission.first_byte(number, self.snapshot, self.now))

    def ends(self, number: int) -> None:
        """An exchange is over."""
        self._note(self.admission.finished(number, self.snapshot, self.now))

    def ticks(self) -> None:
        """Time passed."""
        self._note(self.admission.tick(self.snapshot, self.now))

    def learns(self, turn: int) -> None:
        """A server's memory was looked at: it holds another model than before."""
        name = f"server{turn % 20}"
        facts = self.snapshot.servers[name]
        *kept, _ = facts.loaded.items()
        other = self.requests[turn % 40].model or kept[0][0]
        model = LoadedModel(name=other, size=5 * GIB, size_vram=5 * GIB, context_length=4096)
        self.snapshot = replace(
            self.snapshot,
            servers={**self.snapshot.servers, facts.name: replace(facts, loaded={**dict(kept), other: model})},
        )
        self._note(self.admission.changed(self.snapshot, self.now))

    def events(self, turn: int) -> tuple[Callable[[], None], ...]:
        """One of each, for one that runs."""
        number = self.running.pop(turn * 13 % len(self.running))
        return (
            partial(self.answers, number),
            partial(self.learns, turn),
            partial(self.ends, number),
            self.ticks,
            self.arrive,
        )

    def fill(self) -> None:
        """Until 1,000 wait."""
        while self.admission.waiting < self.WAITING:
            self.arrive()
            self.now += 0.001

    def _note(self, outcomes: Iterable[Outcome]) -> None:
        self.running += [one.ticket.number for one in outcomes if isinstance(one, Dispatch)]


def dispatch_times(strategy: str) -> dict[str, list[float]]:
    """Milliseconds of each event by its name, sorted."""
    crowd = Crowd(strategy)
    found: dict[str, list[float]] = {name: [] for name in EVENTS}
    for turn in range(TURNS):
        crowd.fill()
        crowd.now += 0.05
        for name, event in zip(EVENTS, crowd.events(turn), strict=True):
            start = time.process_time_ns()
            event()
            found[name].append((time.process_time_ns() - start) / 1e6)
    return {name: sorted(times) for name, times in found.items()}


def heads_times(strategy: str, servers: int) -> list[float]:
    """Milliseconds of what is told of the line, sorted."""
    crowd = Crowd(strategy, servers)
    crowd.fill()
    found = []
    for _ in range(TURNS):
        start = time.process_time_ns()
        crowd.admission.line.heads(crowd.snapshot, crowd.now)
        found.append((time.process_time_ns() - start) / 1e6)
    return sorted(found)


def main() -> None:
    """Measure and print."""
    print(f"{'strategy':22} {'servers':>7} {'seen':>5} {'most':>5} {'decide us':>10} {'core us':>8} {'server us':>10}")
    for strategy in STRATEGIES:
        for servers, seen, most in ((1, 1, None), (4, 1, None), (4, 1, 8), (4, 20, 8), (4, 500, 8)):
            config = make_config(servers, strategy, most=most)
            facts, requests, book = make_facts(config, 500)
            snapshot = FleetSnapshot(servers=facts, speeds=book)
            deciding, core = core_cost(config, snapshot, requests, seen)
            server = server_cost(config, facts, requests, book)
            print(f"{strategy:22} {servers:7} {seen:5} {most or '-':>5} {deciding:10.1f} {core:8.1f} {server:10.1f}")
    print(f"\n{'1,000 wait':22} {'event':15} {'median ms':>10} {'p99 ms':>8} {'longest ms':>11}")
    for strategy in STRATEGIES:
        for name, times in dispatch_times(strategy).items():
            row = (statistics.median(times), times[len(times) * 99 // 100], times[-1])
            print(f"{strategy:22} {name:15} {row[0]:10.2f} {row[1]:8.2f} {row[2]:11.2f}")
    for strategy in STRATEGIES:
        for servers in (20, 100):
            times = heads_times(strategy, servers)
            row = (statistics.median(times), times[len(times) * 99 // 100], times[-1])
            print(f"{strategy:22} {f'heads of {servers}':15} {row[0]:10.2f} {row[1]:8.2f} {row[2]:11.2f}")


if __name__ == "__main__":
    main()
