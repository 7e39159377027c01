"""Endurance: many requests, many clients that leave, and then everything as it was before.

    python benchmarks/soak.py [--requests 100000] [--aborts 10000]

Runs the router as a process over the benchmark backend, with users, log rows and metrics. Prints speed as requests for
each second of the router's processor time, so that neighbours on the machine do not count, and what is open, resident
and in flight before and after. Linux only; needs wrk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "dataplane"))

import stacks
from load import request, wrk

AT_ONCE = 100
GAUGES = ("orouter_in_flight", "orouter_waiting", "orouter_server_in_flight")
CONFIG = stacks.ROUTER + "metrics_open: true\nhealth_check_interval: 3600\n"
TELL_TASKS = """
import asyncio, gc, runpy, signal, sys
path = sys.argv[1]
def tell(*_):
    with open(path, "w") as out:
        out.write(str(sum(isinstance(one, asyncio.Task) and not one.done() for one in gc.get_objects())))
signal.signal(signal.SIGUSR1, tell)
sys.argv = ["orouter", *sys.argv[2:]]
runpy.run_module("ollama_router_cli", run_name="__main__")
"""


@dataclass(frozen=True, kw_only=True)
class Census:
    """What a router holds at one moment."""

    files: int
    sockets: int
    tasks: int
    resident: int
    gauges: dict[str, float]


class Router(stacks.Running):
    """A running router that can be asked what it holds."""

    folder: Path

    def census(self) -> Census:
        """Files, sockets and memory from the kernel, tasks from the process, gauges from `/metrics`."""
        (pid,) = self.pids[:1]
        links = []
        for one in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(str(one.readlink()))
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            text = answer.read().decode()
        gauges = {name: _sum(text, name) for name in GAUGES}
        sockets = sum(link.startswith("socket:") for link in links)
        return Census(files=len(links), sockets=sockets, tasks=self._tasks(), resident=self.rss(), gauges=gauges)

    def _tasks(self) -> int:
        told = self.folder / "tasks"
        told.unlink(missing_ok=True)
        os.kill(self.pids[0], signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while not (told.exists() and told.read_text()):
            if time.monotonic() > deadline:
                raise TimeoutError("the router does not tell its tasks")
            time.sleep(0.01)
        return int(told.read_text())


def _sum(text, name):
    return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))


@contextlib.contextmanager
def running(more=""):
    """The router over the benchmark backend, each on a port of its own; `more` are further lines of its config."""
    stacks.BACKEND = stacks.free_port()
    with tempfile.TemporaryDirectory() as name, stacks.backend():
        folder, port = Path(name), stacks.free_port()
        config = folder / "orouter.yml"
        config.write_text(CONFIG.format(port=port, backend=stacks.BACKEND) + more, encoding="utf-8")
        environment = {**os.environ, "OROUTER_DATABASE_URL": f"sqlite:///{folder}/router.sqlite3"}
        orouter = [sys.executable, "-m", "ollama_router_cli", "--config", str(config)]
        create = [*orouter, "users", "create", "bench"]
        made = subprocess.run(create, env=environment, check=True, capture_output=True, text=True)
        token = re.search(r"\b[0-9A-Za-z]{32}\b", made.stdout)[0]
        command = [sys.executable, "-c", TELL_TASKS, str(folder / "tasks"), "--config", str(config), "serve"]
        with stacks.started("ollama-router", command, port, token=token, env=environment) as one:
            router = Router(one.name, one.port, one.pids[:1], token)
            router.folder = folder
            yield router


def per_cpu_second(router, seconds):
    """Requests for each second of processor time, and how many there were."""
    before = router.cpu()
    rate, _, _ = wrk(router, connections=32, seconds=seconds)
    return rate * seconds / (router.cpu() - before), int(rate * seconds)


async def aborts(router, count, seed):
    """Clients that leave at a random moment: while the request is sent, before the answer, within the stream."""
    rng = random.Random(seed)
    numbers = iter(range(count))

    async def one_after_the_other():
        for number in numbers:
            with contextlib.suppress(ConnectionError):
                await _abort(router, rng, half=number % 10 == 0)

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


async def _abort(router, rng, *, half):
    _, writer = await asyncio.open_connection("127.0.0.1", router.port)
    data = request(router, 100, 20)
    writer.write(data[: len(data) - 20] if half else data)
    await asyncio.sleep(rng.random() * 0.15)
    if rng.random() < 0.5:
        writer.transport.abort()
    writer.close()


def settled(router, before, seconds=60):
    """The census once files are back to what they were, give or take two, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        now = router.census()
        back = abs(now.files - before.files) <= 2 and not any(now.gauges.values())
        if back or time.monotonic() > deadline:
            return now
        time.sleep(1)


def main():
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--requests", type=int, default=100_000)
    asked.add_argument("--aborts", type=int, default=10_000)
    options = asked.parse_args()
    with running() as router:
        per_cpu_second(router, 3)  # what is allocated once is not growth
        asyncio.run(aborts(router, 200, 0))
        first = min((settled_again(router) for _ in range(2)), key=lambda one: one.files)
        speeds = [per_cpu_second(router, 5)[0]]
        sent, left, turn = 0, 0, 0
        while sent < options.requests or left < options.aborts:
            turn += 1
            if sent < options.requests:
                sent += per_cpu_second(router, 5)[1]
            if left < options.aborts:
                some = min(max(options.aborts // 10, 100), options.aborts - left)
                asyncio.run(aborts(router, some, turn))
                left += some
        speeds.append(per_cpu_second(router, 5)[0])
        last = settled(router, first)
    print(f"{sent:,} requests and {left:,} clients that left")
    print(f"requests a processor second: {speeds[0]:.0f} at the start, {speeds[1]:.0f} at the end,", end=" ")
    print(f"ratio {speeds[1] / speeds[0]:.3f}")
    print(f"files: {first.files} -> {last.files}, sockets: {first.sockets} -> {last.sockets}")
    print(f"tasks: {first.tasks} -> {last.tasks}")
    print(f"resident: {first.resident / 2**20:.1f} -> {last.resident / 2**20:.1f} MiB")
    print("gauges: " + ", ".join(f"{name} {value:g}" for name, value in last.gauges.items()))


def settled_again(router):
    """The census of a router at rest: idle connections to the server have ended."""
    time.sleep(20)
    return router.census()


if __name__ == "__main__":
    main()
