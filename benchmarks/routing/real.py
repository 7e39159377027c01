"""Is the simulation right about a real Ollama? `python benchmarks/routing/real.py --ollama FILE --models FOLDER`.

Starts one Ollama for each core, pinned to it, with room for one model; measures how long each takes to load, read and
write (never more than one request at a time); sends requests through a router to them; and simulates the same requests
on machines of those speeds. The simulation is told when requests came and how long prompts and answers turned out, and
nothing else of the run. FOLDER is OLLAMA_MODELS of an Ollama that has gemma3:270m, and the same with other weights as
gemma3:270m-q8.

A machine that does other things as well gives figures of these: `chrt -f 40 python ...` (root) runs it all before
everything else there, the router before the servers. Servers listen on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from serving import served

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config import load_config
from ollama_router_core.fleet.snapshot import ModelSpeed
from ollama_router_core.simulation.comparison import ROUTERS
from ollama_router_core.simulation.engine import simulate
from ollama_router_core.simulation.report import percentile
from ollama_router_core.simulation.routers import Knowledge
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import Job, SimulatedModel
from ollama_router_server.services import Services

NAMES = ("gemma3:270m", "gemma3:270m-q8")
SHARES = (2, 1)  # of the requests
TOLD = {"max_loaded_models": 1, "num_parallel": 1}  # what either router is told of a server
ROUNDS = 3
LOADS = 0.1  # seconds: Ollama tells a few milliseconds where nothing is loaded
WORDS = ("river", "stone", "lamp", "garden", "winter", "engine", "paper", "signal", "harbour", "window")
GIB = 1 << 30


@dataclass(frozen=True)
class Ask:
    """A request that will be made: seconds from the start, the model's number, words of the prompt, tokens at most."""

    at: float
    model: int
    words: int
    output: int


@dataclass(frozen=True)
class Answer:
    """What came of it, on either side: seconds to the first token, to the end, of its load; tokens; where."""

    ttft: float
    completion: float
    prompt_tokens: int
    output_tokens: int
    server: str
    load: float


Pair = tuple[Answer, Answer]


def plan(count: int, rate: float, seed: int) -> list[Ask]:
    """Arrivals by chance, short and long prompts and answers."""
    rng, at, found = random.Random(seed), 0.0, []
    for _ in range(count):
        at += rng.expovariate(rate)
        words = min(400, round(rng.lognormvariate(4.0, 0.8)))
        found.append(Ask(at, rng.choices((0, 1), SHARES)[0], max(8, words), rng.randint(8, 60)))
    return found


def body(model: str, words: int, output: int, rng: random.Random) -> dict[str, Any]:
    """A prompt that begins like no other, so that no slot holds a part of it.

    Without the penalty a small model may repeat a token, which Ollama ends after thirty times.
    """
    text = " ".join(rng.choices(WORDS, k=words))
    return {
        "model": model,
        "prompt": f"{rng.randrange(10**9)} {text}. Write a long story with these words.",
        "options": {"num_predict": output, "seed": rng.randrange(10**6), "repeat_penalty": 1.5},
    }


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@contextmanager
def before_the_servers() -> Iterator[None]:
    """Run one step before what was started by now, where all of it has priority in real time."""
    if os.sched_getscheduler(0) != os.SCHED_FIFO:
        yield
        return
    usual = os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(usual.sched_priority + 1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_FIFO, usual)


@contextmanager
def servers(ollama: Path, models: Path) -> Iterator[dict[str, str]]:
    """One Ollama for each core; yields their addresses by name."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        found = {}
        for core in sorted(os.sched_getaffinity(0)):
            home = Path(folder) / f"core{core}"
            shutil.copytree(models, home / "models")
            address = f"127.0.0.1:{free_port()}"
            environment = {
                **os.environ,
                "HOME": str(home),
                "OLLAMA_HOST": address,
                "OLLAMA_MODELS": str(home / "models"),
                "OLLAMA_MAX_LOADED_MODELS": "1",
                "OLLAMA_NUM_PARALLEL": "1",
            }
            command = ["taskset", "-c", str(core), str(ollama), "serve"]
            log = stack.enter_context((home / "log").open("wb"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(stop, process)
            found[f"core{core}"] = f"http://{address}"
        for url in found.values():
            prepare(url)
        yield found


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server; it ends its runners."""
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)


def prepare(url: str) -> None:
    """Wait until a server answers, and make models of one thread each there."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/api/version", trust_env=False).status_code == 200:
                break
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} does not answer")
        time.sleep(0.1)
    for number, name in enumerate(NAMES):
        wanted = {"model": f"m{number}", "from": name, "parameters": {"num_thread": 1}, "stream": False}
        httpx.post(f"{url}/api/create", json=wanted, timeout=60, trust_env=False).raise_for_status()


def measure(url: str, rng: random.Random) -> dict[str, ModelSpeed]:
    """How fast a server is: each model is loaded in place of the other, reads and writes, three times."""
    told: dict[str, list[dict[str, Any]]] = {"m0": [], "m1": []}
    for _ in range(ROUNDS):
        for name, rows in told.items():
            asked = {**body(name, 100, 40, rng), "stream": False}
            answer = httpx.post(f"{url}/api/generate", json=asked, timeout=120, trust_env=False)
            rows.append(answer.raise_for_status().json())
    found = {}
    for name, rows in told.items():
        middle = {key: median(row[key] for row in rows) for key in rows[0] if key.endswith(("_duration", "_count"))}
        found[name] = ModelSpeed(
            load_seconds=middle["load_duration"] / 1e9,
            prefill_rate=middle["prompt_eval_count"] * 1e9 / middle["prompt_eval_duration"],
            decode_rate=middle["eval_count"] * 1e9 / middle["eval_duration"],
            answer_tokens=middle["eval_count"],
        )
        asked = {"model": name, "keep_alive": 0}
        httpx.post(f"{url}/api/generate", json=asked, timeout=60, trust_env=False).raise_for_status()
    return found


@asynccontextmanager
async def router(strategy: str, urls: Mapping[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a router in front of the servers."""
    hosts = {name: httpx.URL(url) for name, url in urls.items()}
    told = {name: {"host": url.host, "port": url.port, **TOLD} for name, url in hosts.items()}
    text = json.dumps({"servers": told, "routing_strategy": strategy, "proxy_port": 1})
    with tempfile.TemporaryDirectory() as folder:
        services = Services(load_config(text), {"OROUTER_DATABASE_URL": f"sqlite:///{folder}/router.sqlite3"})
        async with served(services, "real") as (url, token):
            headers = {"authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600, trust_env=False) as client:
                (await client.get("/api/tags")).raise_for_status()  # a token's first use costs bcrypt
                yield client


async def over_http(strategy: str, urls: Mapping[str, str], asks: Sequence[Ask], rng: random.Random) -> list[Answer]:
    """What came of each request."""
    async with router(strategy, urls) as client:
        await asyncio.sleep(2)  # the router has asked the servers
        loop = asyncio.get_running_loop()
        start = loop.time() + 1.0

        async def ask(one: Ask) -> Answer:
            asked = body(f"m{one.model}", one.words, one.output, rng)
            await asyncio.sleep(start + one.at - loop.time())
            first, last = None, ""
            async with client.stream("POST", "/api/generate", json=asked) as answer:
                if answer.status_code != 200:
                    raise SystemExit(f"{answer.status_code}: {await answer.aread()!r}")
                async for line in answer.aiter_lines():
                    first = first or loop.time()
                    last = line
                server = answer.headers.get("x-router-server", "")
            end, told = loop.time(), json.loads(last)
            assert first is not None
            begun = start + one.at
            return Answer(
                ttft=first - begun,
                completion=end - begun,
                prompt_tokens=told["prompt_eval_count"],
                output_tokens=told["eval_count"],
                server=server,
                load=told["load_duration"] / 1e9,
            )

        return list(await asyncio.gather(*(ask(one) for one in asks)))


def in_virtual_time(
    strategy: str, speeds: Mapping[str, Mapping[str, ModelSpeed]], asks: Sequence[Ask], answers: Sequence[Answer]
) -> list[Answer]:
    """The same requests on machines of these speeds."""
    models = [SimulatedModel(name=canonical_name(f"m{n}"), billions=0.268, weights_gib=0.25) for n in (0, 1)]
    machines = tuple(
        Machine(
            name=name,
            vram_gib=16,
            bandwidth=1,
            tflops=1,
            load_rate=1,
            max_loaded=1,
            fit_share=1.0,
            measured={canonical_name(model): speed for model, speed in found.items()},
        )
        for name, found in speeds.items()
    )
    jobs = [
        Job(number=number, at=one.at, model=models[one.model].name, prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens)
        for number, (one, answer) in enumerate(zip(asks, answers, strict=True))
    ]  # fmt: skip
    knows = Knowledge(servers=dict.fromkeys(speeds, TOLD))
    outcomes = simulate(ROUTERS[strategy](machines, knows), machines, models, jobs).outcomes
    return [
        Answer(one.ttft, one.finished - one.job.at, one.job.prompt_tokens, one.job.output_tokens, one.server, one.load)
        for one in sorted(outcomes, key=lambda one: one.job.number)
    ]


def play(strategy: str, options: argparse.Namespace, seed: int) -> list[Pair]:
    """Each request of one run, simulated and measured."""
    rng, asks = random.Random(seed), plan(options.requests, options.rate, seed)
    with servers(options.ollama, options.models) as urls, before_the_servers():
        speeds = {name: measure(url, rng) for name, url in urls.items()}
        answers = asyncio.run(over_http(strategy, urls, asks, rng))
    return list(zip(in_virtual_time(strategy, speeds, asks, answers), answers, strict=True))


def tell(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Percentiles over all runs: simulated, measured, and how far the first is off."""
    row: dict[str, Any] = {}
    for title in ("ttft", "completion"):
        for name, share in (("p50", 0.5), ("p95", 0.95)):
            simulated, real = (
                percentile([getattr(one, title) for one in side], share) for side in zip(*pairs, strict=True)
            )
            row[f"{title}_{name}"] = [round(simulated, 2), round(real, 2), round(simulated / real - 1.0, 3)]
    row["same_server"] = sum(ours.server == theirs.server for ours, theirs in pairs)
    row["loads"] = [sum(one.load > LOADS for one in side) for side in zip(*pairs, strict=True)]
    return row


def main() -> None:
    """Measure and print one line for each strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ollama", type=Path, required=True, help="the program")
    parser.add_argument("--models", type=Path, required=True, help="a folder like ~/.ollama/models")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.4, help="requests a second")
    parser.add_argument("--seeds", type=int, default=1, help="runs, each with other requests")
    parser.add_argument("--strategies", default="fastest")
    options = parser.parse_args()
    for strategy in options.strategies.split(","):
        runs = [play(strategy, options, seed) for seed in range(1, options.seeds + 1)]
        pairs = list(chain.from_iterable(runs))
        print(json.dumps({"strategy": strategy, "requests": len(pairs), **tell(pairs)}), flush=True)


if __name__ == "__main__":
    main()
