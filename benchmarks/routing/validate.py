"""Is the model of a server right? `python benchmarks/routing/validate.py [--requests 200] [--rate 0.12] [--json]`.

The same requests go through the simulation in virtual time, and over HTTP through a router and three simulated Ollama
servers on loopback sockets. The percentiles of the time to the first token must agree within ten per cent.

Waiting for hours is avoided by time itself: one event loop runs everything, and its clock stands still while there is
something to do and jumps to the next timer when there is not. Timers, loads, tokens, polls and the router's own clock
agree on it. Sockets and Python take no time on this clock, however busy the machine is; threads (the database) are
given a millisecond before each jump.

Both sides are given the same hardware: seconds of a load, of a prompt's token and of an answer's token. Beyond that
the HTTP side is `ollama_router_core.testing`: one load at a time in order, eviction of idle models by name, the
server's own memory rules. It does not slow requests that run side by side, so `sharing` is 0 in the model here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import selectors
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
from serving import served

from ollama_router_core import testing
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config import load_config
from ollama_router_core.simulation.comparison import ROUTERS
from ollama_router_core.simulation.engine import simulate
from ollama_router_core.simulation.report import percentile
from ollama_router_core.simulation.routers import Knowledge
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import Arrival, Job, SimulatedModel, assign_models, zipf_weights
from ollama_router_server.services import Services

GIB = 1 << 30
WEIGHTS, KV = 5.0, 0.5  # GiB of each model and of its cache at 4096 tokens
SPARE = 2.5  # before a model is measured the router counts 1.2 for buffers and keeps to 80 % of what is free: it would
# not believe in as many models as a simulated server holds, and the simulation, which knows no buffers, would
ANSWER = 40
MODELS = tuple(SimulatedModel(name=canonical_name(f"m{n}:8b"), billions=8, weights_gib=WEIGHTS) for n in range(1, 7))
STRATEGIES = ("round_robin", "least_loaded", "priority_with_memory", "fastest")
TOLERANCE = 0.10
GRACE = 0.001  # real seconds


def machine(name: str, models: int, *, bandwidth: float, tflops: float, load_rate: float, priority: int) -> Machine:
    """A server with room for so many of the models."""
    return Machine(
        name=name,
        vram_gib=models * (WEIGHTS + KV) + SPARE,
        bandwidth=bandwidth,
        tflops=tflops,
        load_rate=load_rate,
        priority=priority,
        headroom=(WEIGHTS + KV) / WEIGHTS,
        eviction="ollama",
        joins=False,
        fit_share=1.0,
        max_loaded=9,
        sharing=0.0,
    )


FLEET = (
    machine("big", 3, bandwidth=200, tflops=16, load_rate=2.0, priority=1),
    machine("mid", 2, bandwidth=120, tflops=10, load_rate=1.0, priority=2),
    machine("old", 1, bandwidth=80, tflops=6, load_rate=0.7, priority=3),
)


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for time: when nothing is ready the clock goes on to where the next timer is."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """What is ready; a timer's wait is added to the clock instead."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            return super().select(None)
        ready = super().select(GRACE)
        if not ready:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, with real sockets."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Virtual seconds."""
        return self._clock.now


class LoopClock:
    """The same time for the router and the servers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._began = time.time()

    def monotonic(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def wall(self) -> float:
        """The same from today on."""
        return self._began + self._loop.time()


def make_jobs(count: int, rate: float, seed: int) -> tuple[Job, ...]:
    """Requests in bursts and lulls, for models by weights 1/rank."""
    rng = random.Random(seed)
    arrivals, at = [], 0.0
    for _ in range(count):
        at += rng.expovariate(rate)
        tokens = min(4000, round(rng.lognormvariate(7.0, 0.7)))
        arrivals.append(Arrival(at=at, prompt_tokens=tokens, output_tokens=ANSWER))
    return assign_models(arrivals, MODELS, zipf_weights(len(MODELS)), rng)


def simulator(one: Machine, clock: LoopClock) -> testing.OllamaSimulator:
    """The same server over HTTP."""
    models = [
        testing.SimulatedModel(
            name=model.name,
            size=round(WEIGHTS * GIB),
            answer_tokens=ANSWER,
            prefill_speed=1.0 / one.prefill_seconds(model, 1),
            decode_speed=1.0 / one.decode_seconds(model, 1),
        )
        for model in MODELS
    ]
    room = round((one.vram_gib - SPARE - WEIGHTS - KV + 7.2) * GIB)  # what is left must be 1.25 x as large as a model
    return testing.OllamaSimulator(
        models=models,
        vram=room,
        max_loaded_models=9,
        default_context=4096,
        load_speed=WEIGHTS * GIB / one.load_seconds(MODELS[0]),
        time_scale=1.0,
        wall=clock.wall,
    )


def settings(strategy: str, servers: Mapping[str, testing.OllamaSimulator]) -> str:
    """A router's config with timeouts that a fast clock does not meet."""
    entries = {
        one.name: {
            "host": "127.0.0.1",
            "port": servers[one.name].port,
            "max_memory_gb": one.vram_gib,
            "priority": one.priority,
        }
        for one in FLEET
    }
    patient = dict.fromkeys(("request_timeout", "connect_timeout", "idle_timeout", "probe_timeout"), 1e6)
    queue = {"max_waiting": 100_000, "max_waiting_per_model": 100_000, "max_wait": 1e6}
    limits = {"max_in_flight": 100_000}
    return json.dumps(
        {
            "servers": entries,
            "routing_strategy": strategy,
            "queue": queue,
            "limits": limits,
            "server_busy_threshold_ms": 1e6,
            "model_info_timeout": 1e6,
            "proxy_port": 1,
            **patient,
        }
    )


async def over_http(strategy: str, jobs: Sequence[Job]) -> list[float]:
    """Seconds to each request's first token."""
    clock = LoopClock(asyncio.get_running_loop())
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        servers = {one.name: await stack.enter_async_context(simulator(one, clock)) for one in FLEET}
        environment = {"OROUTER_DATABASE_URL": f"sqlite:///{folder}/router.sqlite3"}
        services = Services(load_config(settings(strategy, servers)), environment, clock=clock)
        url, token = await stack.enter_async_context(served(services, "validation"))
        return await _ask_all(jobs, url, token)


async def _ask_all(jobs: Sequence[Job], url: str, token: str) -> list[float]:
    loop = asyncio.get_running_loop()
    headers = {"authorization": f"Bearer {token}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # idle ones end soon on this clock
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=1e6, limits=limits, trust_env=False) as client:
        (await client.get("/api/version")).raise_for_status()  # a token's first use costs bcrypt
        start = loop.time() + 5.0

        async def ask(job: Job) -> float:
            await asyncio.sleep(start + job.at - loop.time())
            body = {"model": job.model, "prompt": "www " * job.prompt_tokens}
            first = None
            async with client.stream("POST", "/api/generate", json=body) as answer:
                if answer.status_code != 200:
                    raise SystemExit(f"{answer.status_code}: {await answer.aread()!r}")
                async for _ in answer.aiter_raw():
                    first = first or loop.time()
            assert first is not None
            return first - start - job.at

        return list(await asyncio.gather(*(ask(job) for job in jobs)))


def in_virtual_time(strategy: str, jobs: Sequence[Job]) -> list[float]:
    """The same from the simulation."""
    told = {one.name: {"max_memory_gb": one.vram_gib} for one in FLEET}
    knows = Knowledge(servers=told, settings={"queue": {"max_waiting": 100_000, "max_wait": 1e6}})
    return [one.ttft for one in simulate(ROUTERS[strategy](FLEET, knows), FLEET, MODELS, jobs).outcomes]


def compare(strategy: str, jobs: Sequence[Job]) -> dict[str, Any]:
    """Both, and how far apart they are."""
    modelled = in_virtual_time(strategy, jobs)
    loop = JumpingLoop()
    try:
        measured = loop.run_until_complete(over_http(strategy, jobs))
    finally:
        loop.close()
    row: dict[str, Any] = {"strategy": strategy, "requests": len(jobs)}
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        ours, theirs = percentile(modelled, share), percentile(measured, share)
        row |= {f"{name}_simulated": round(ours, 2), f"{name}_http": round(theirs, 2)}
        row[f"{name}_off"] = round(ours / theirs - 1.0, 3)
    return row


def main() -> None:
    """Measure and print; exit code 1 when a percentile is off by more than promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.12, help="requests a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    jobs = make_jobs(options.requests, options.rate, options.seed)
    rows = [compare(strategy, jobs) for strategy in options.strategies.split(",")]
    if options.json:
        print(json.dumps(rows))
    else:
        names = ("p50_simulated", "p50_http", "p50_off", "p95_simulated", "p95_http", "p95_off")
        print(f"{'':22} " + " ".join(f"{name:>13}" for name in names))
        for row in rows:
            print(f"{row['strategy']:22} " + " ".join(f"{row[name]:13}" for name in names))
    if any(abs(row[name]) > TOLERANCE for row in rows for name in ("p50_off", "p95_off")):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
