"""What one decision costs: `python benchmarks/decide.py`.

Prints the median and the 99th percentile of `decide` in microseconds, one core, for three sizes of fleet and each
strategy. Facts are indexed once a snapshot, not once a request: the first decision for each model after a change of
facts is shown apart.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable

from ollama_router_core.admission import Admission, Dispatch, Outcome, Ticket
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, LoadedModel, ServerFacts
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight
from ollama_router_core.routing.selector import ServerSelector

GIB = 1024**3
FLEETS = ((4, 20, 15.0), (10, 50, 40.0), (100, 500, 400.0))
STRATEGIES = ("priority_with_memory", "least_loaded", "round_robin", "fastest")
REPEATS = 2000
_FASTEST = {"routing_strategy": "fastest"}


def make_fleet(servers: int, models: int, strategy: str) -> tuple[Config, FleetSnapshot, list[RouteRequest]]:
    """Servers that all have every model and hold a few of them, with speeds learned for some."""
    names = [f"family{number % 7}:{1 + number % 30}b-v{number}" for number in range(models)]
    installed = {
        canonical_name(name): InstalledModel(
            name=canonical_name(name), spelling=name, size=(1 + number % 30) * GIB // 2, digest=f"sha256:{number}"
        )
        for number, name in enumerate(names)
    }
    config = Config.model_validate(
        {
            "servers": {
                f"server{number:03}": {
                    "host": "127.0.0.1",
                    "max_memory_gb": 24.0,
                    "priority": number % 3,
                    "max_concurrent": 8,
                }
                for number in range(servers)
            },
            "routing_strategy": strategy,
        }
    )
    book, facts = SpeedBook(), {}
    for number, server in enumerate(config.servers):
        held = [installed[canonical_name(names[(number + step) % models])] for step in range(3)]
        facts[server] = ServerFacts(
            name=server,
            up=True,
            installed=installed,
            loaded={one.name: LoadedModel(name=one.name, size=one.size, size_vram=one.size) for one in held},
        )
        for one in held:
            sample = Sample(prompt_tokens=1000, prompt_ns=10**9, output_tokens=100, output_ns=2 * 10**9)
            book = book.observe(server, one.name, model_weight(one.name, one), sample)
    demand = dict.fromkeys(installed, 0.01)
    snapshot = FleetSnapshot(servers=facts, in_flight=dict.fromkeys(list(facts)[::2], 1), speeds=book, demand=demand)
    requests = [
        RouteRequest(model_text=name, model=canonical_name(name), prompt_tokens=1000, needs=frozenset({"completion"}))
        for name in names
    ]
    return config, snapshot, requests


def timed(selector: ServerSelector, snapshot: FleetSnapshot, request: RouteRequest, tiebreak: int) -> float:
    """Microseconds of one decision."""
    start = time.perf_counter_ns()
    decision = selector.decide(request, snapshot, now=0.0, tiebreak=tiebreak)
    elapsed = time.perf_counter_ns() - start
    assert decision.ranking
    return elapsed / 1000


def queue_times(servers: int, models: int, waiting: int) -> dict[str, list[float]]:
    """Microseconds of CPU that the end of a request and an arrival take while so many wait under `fastest`."""
    config, snapshot, requests = make_fleet(servers, models, "fastest")
    bare = Config.model_validate({"servers": {name: {"host": "h"} for name in config.servers}, **_FASTEST})
    admission, rng, now, running = Admission(bare), random.Random(1), 0.0, deque[int]()
    times: dict[str, list[float]] = {"end": [], "arrival": []}

    def measured(kind: str, call: Callable[..., Iterable[Outcome]], *arguments: object) -> None:
        start = time.thread_time_ns()
        outcomes = call(*arguments, snapshot, now)
        times[kind].append((time.thread_time_ns() - start) / 1000)
        running.extend(one.ticket.number for one in outcomes if isinstance(one, Dispatch))

    for number in range(REPEATS):
        now += 0.01
        ticket = Ticket(number=number, request=rng.choice(requests), arrived=now, user=f"user{number % 7}")
        measured("arrival", admission.arrive, ticket)
        if admission.waiting > waiting:
            measured("end", admission.finished, running.popleft())
    return times


def main() -> None:
    """Measure and print."""
    titles = ("median us", "p99 us", "first us", "promise us")
    print(f"{'servers':>7} {'models':>6}  {'strategy':22} " + " ".join(f"{title:>10}" for title in titles))
    for servers, models, promise in FLEETS:
        for strategy in STRATEGIES:
            config, snapshot, requests = make_fleet(servers, models, strategy)
            selector = ServerSelector(config)
            first = [timed(selector, snapshot, request, 0) for request in requests]
            times = sorted(timed(selector, snapshot, requests[turn % models], turn) for turn in range(REPEATS))
            row = (statistics.median(times), times[int(0.99 * REPEATS)], statistics.median(first), promise)
            print(f"{servers:7} {models:6}  {strategy:22} " + " ".join(f"{value:10.1f}" for value in row))
    for kind, found in queue_times(200, 5, 64).items():
        half = sorted(found[len(found) // 2 :])
        row = (statistics.median(half), half[int(0.99 * len(half))], math.nan, 1500.0)
        print(f"{200:7} {5:6}  {f'{kind}, 64 waiting':22} " + " ".join(f"{value:10.1f}" for value in row))


if __name__ == "__main__":
    main()
