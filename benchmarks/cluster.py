"""Several routers under load while parts of the cluster fail: what is lost, what passes a limit, what it costs.

Routers as processes behind haproxy, on one PostgreSQL and one Redis, in front of simulated servers with four slots
each. Clients of ten users ask without a pause. Meanwhile a router is killed and started again, one starts a successor,
Redis forgets everything, Redis and PostgreSQL are stopped for a while, a server is drained and another falls silent.
Needs Debian's haproxy, postgresql and redis-server.

    python benchmarks/cluster.py                  # three routers, 200 clients, two minutes
    python benchmarks/cluster.py --short          # the same in half a minute with fewer clients: the form of the tests
    python benchmarks/cluster.py --latency        # what asking Redis adds to a request, instead
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis
from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ollama_router_core.coordination.interface import Scope
from ollama_router_core.testing import Delay, OllamaSimulator
from support.postgresql import Cluster, find_binaries, running_cluster
from support.redis_group import RedisGroup
from support.redis_server import RedisServer, find_server, running_redis
from support.router import users_at

MODEL = "llama3.1:8b"
SLOTS = 4
USERS = 10
CHAT = {"model": MODEL, "stream": False, "messages": [{"role": "user", "content": "Hello"}]}
_GIVEN_UP = "stopped answering its probes"
_NOTICED = 5.0
"""Seconds after which a client has seen that its router was killed, on a busy machine."""
_FAIR = 0.9
"""Jain's index of users who ask alike from which on the line is fair."""
_AT_ONCE = 5000
"""Claims of one instant."""
_READ_LATE = 0.2
"""Seconds after which a client on a busy machine reads an answer that had been sent."""
HAPROXY = """\
global
  maxconn 4096
defaults
  mode http
  timeout connect 1s
  timeout client 300s
  timeout server 300s
  timeout check 10s
  retries 3
  retry-on conn-failure
  option redispatch 1
  option http-server-close
frontend all
  bind 127.0.0.1:{port}
  default_backend routers
backend routers
  balance leastconn
  option httpchk GET /readyz
  default-server check inter 200ms fall 3 rise 1
{servers}
"""


@dataclass
class Router:
    """A router at a port of its own; its process changes when it starts a successor."""

    port: int
    home: Path
    pid: int = 0

    async def start(self, environment: dict[str, str]) -> None:
        """Start it, and wait until it is ready."""
        self.home.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "ollama_router_cli", "--config", str(self.home.parent / "orouter.json")]
        with (self.home / "log").open("ab") as log:
            streams = {"stdout": log, "stderr": log}
            self.pid = started([*command, "serve", "--port", str(self.port)], env=environment, cwd=self.home, **streams)
        await until(self.ready, f"the router at {self.port}")

    async def ready(self) -> bool:
        """Whether it takes requests."""
        with contextlib.suppress(httpx.HTTPError):
            async with client_of(None) as client:
                return (await client.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200
        return False

    async def succeed(self) -> None:
        """Have it start a successor, and wait until the old process is gone."""
        old = self.pid
        os.kill(old, signal.SIGUSR2)

        async def replaced() -> bool:
            self.pid = next(iter(children(old)), self.pid)
            return is_gone(old)

        await until(replaced, "the predecessor has ended", seconds=120.0)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process, if it was started."""
        if not self.pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass
class Tally:
    """What clients saw. Moments are of the monotonic clock."""

    answered: dict[str, float] = field(default_factory=dict)
    by_user: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    failed: list[tuple[float, float, str]] = field(default_factory=list)

    def lost(self, killed: float, gone: float) -> tuple[list[tuple[float, str]], int]:
        """Failures but those of requests that a killed router had, and how many those were.

        It had what was open when it was killed, and what the kernel accepted for it until it was gone: for 37 to 62 ms
        after `kill -9`, because a process gives back its memory before it closes its sockets. Nor are those lost that
        a router gave up at the server which had stopped to answer: they may have run there.
        """
        cut = [one for one in self.failed if one[0] <= gone and killed <= one[1] <= gone + _NOTICED]
        return [one[1:] for one in self.failed if one not in cut and _GIVEN_UP not in one[2]], len(cut)

    def given_up(self) -> int:
        """How many were given up there."""
        return sum(_GIVEN_UP in why for _, _, why in self.failed)


EVENTS: list[tuple[float, str]] = []


def say(what: str) -> None:
    """Tell what happens now, and remember it."""
    EVENTS.append((time.monotonic(), what))
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


async def until(condition: Any, what: str, *, seconds: float = 120.0, pause: float = 0.05) -> None:
    """Poll."""
    end = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        await asyncio.sleep(pause)


def after_what(moment: float) -> str:
    """What had happened last, and how long before."""
    at, what = max((event for event in EVENTS if event[0] <= moment), default=(moment, "the start"))
    return f"{moment - at:.2f} s after: {what}"


def started(command: list[str], **options: Any) -> int:
    """The process of a command."""
    return subprocess.Popen(command, **options).pid


def children(pid: int) -> list[int]:
    """What a process has started, while it runs."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def is_gone(pid: int) -> bool:
    """Whether a process has ended, or never began; it may be a child of ours that nobody has waited for.

    A first thread that has ended says nothing: the others keep the sockets open.
    """
    with contextlib.suppress(OSError):
        ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return ended and len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    return True


def free_port() -> int:
    """One that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def client_of(token: str | None, base: str = "") -> httpx.AsyncClient:
    """A client of the cluster's; loading certificates would take longer than a run's first requests."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=base, headers=headers, timeout=300, trust_env=False, verify=False)  # noqa: S501 - plain HTTP


async def client_loop(base: str, user: str, token: str, tally: Tally, ends: asyncio.Event) -> None:
    """Ask without a pause."""
    async with client_of(token, base) as client:
        while not ends.is_set():
            begun = time.monotonic()
            try:
                answer = await client.post("/api/chat", json=CHAT)
                why = "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:100]}"
            except httpx.HTTPError as error:
                why = f"{type(error).__name__}: {error}"
            ended = time.monotonic()
            if why:
                tally.failed.append((begun, ended, why))
                await asyncio.sleep(0.05)
                continue
            tally.answered[answer.headers["x-router-request-id"]] = ended
            tally.by_user[user] += 1
            tally.waits.append(ended - begun)


@contextlib.asynccontextmanager
async def simulators(count: int, answer_seconds: float) -> AsyncIterator[list[OllamaSimulator]]:
    """Servers that answer within about so many seconds."""
    async with contextlib.AsyncExitStack() as stack:
        found = [
            OllamaSimulator(models=[MODEL], num_parallel=64, time_scale=answer_seconds, answer_tokens=10)
            for _ in range(count)
        ]
        for one in found:
            await stack.enter_async_context(one)
        yield found


def write_config(folder: Path, sims: list[OllamaSimulator], redis_url: str | None) -> None:
    """One config for all routers."""
    servers = {
        f"s{number}": {
            "host": "127.0.0.1",
            "port": sim.port,
            "max_concurrent": SLOTS,
            "num_parallel": 64,
        }
        for number, sim in enumerate(sims)
    }
    config: dict[str, Any] = {
        "servers": servers,
        "health_check_interval": 1.0,
        "queue": {"max_wait": 240.0, "max_waiting_per_model": 1000},
    }
    if redis_url is not None:
        config["coordination"] = {"url": redis_url, "heartbeat": 2.0, "timeout": 1.0}
    (folder / "orouter.json").write_text(json.dumps(config))


def environment_of(folder: Path, database_url: str) -> dict[str, str]:
    """Of every router."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OROUTER_", "OLLAMA_", "XDG_"))}
    return {
        **kept,
        "HOME": str(folder),
        "OROUTER_DATABASE_URL": database_url,
        "OROUTER_TOKEN_KEY_FILE": str(folder / "token-key"),
    }


async def make_users(base: str, admin: str) -> dict[str, str]:
    """Tokens of ten users by name."""
    tokens = {}
    async with client_of(admin, base) as client:
        for number in range(USERS):
            made = await client.post("/router/users", json={"name": f"user{number}"})
            tokens[f"user{number}"] = made.json()["token"]
    return tokens


@dataclass
class Run:
    """The cluster, and what is done to it while it works."""

    options: argparse.Namespace
    folder: Path
    sims: list[OllamaSimulator]
    redis: RedisServer
    postgres: Cluster
    routers: list[Router] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    killed_at: float = float("-inf")
    gone_at: float = float("-inf")
    most: dict[str, int] = field(default_factory=dict)

    def phase(self, name: str) -> None:
        """Note the most that were at one server at once in the phase that ends."""
        self.most[name] = max(self.most.get(name, 0), *(sim.max_in_flight for sim in self.sims))
        for sim in self.sims:
            sim.max_in_flight = 0

    async def watch(self) -> None:
        """Tell when a server has more than its slots, until cancelled."""
        told: dict[int, int] = {}
        while True:
            for number, sim in enumerate(self.sims):
                if sim.max_in_flight > max(SLOTS, told.get(number, 0)):
                    told[number] = sim.max_in_flight
                    now = time.monotonic()
                    print(f"s{number}: {sim.max_in_flight} at once, {after_what(now)}", file=sys.stderr, flush=True)
            await asyncio.sleep(0.01)

    async def disturb(self, admin: str, environment: dict[str, str]) -> None:
        """Everything that goes wrong, one after the other."""
        rest, outage = self.options.seconds / 12, self.options.outage
        await asyncio.sleep(rest)
        say("a router is killed")
        self.killed_at = time.monotonic()
        self.routers[-1].kill()
        await until(lambda: _gone(self.routers[-1]), "the killed router is gone", pause=0.002)
        self.gone_at = time.monotonic()
        await asyncio.sleep(rest)
        say("it is started again")
        await self.routers[-1].start(environment)
        await asyncio.sleep(rest)
        say("another one starts a successor")
        await self.routers[0].succeed()
        await asyncio.sleep(rest)
        say("Redis forgets everything")
        with self.redis.client() as client:
            client.flushall()
        await asyncio.sleep(rest)
        self.phase("asked")
        say("Redis is stopped")
        self.redis.stop()
        await asyncio.sleep(outage)
        self.redis.start()
        await asyncio.sleep(3.0)
        self.phase("alone")
        say("PostgreSQL is stopped")
        self.postgres.stop()
        await asyncio.sleep(outage)
        self.postgres.start()
        await asyncio.sleep(rest)
        async with client_of(admin) as client:
            url = f"http://127.0.0.1:{self.routers[0].port}/router/servers/s0"
            say("a server is drained")
            (await client.post(f"{url}/drain")).raise_for_status()
            await asyncio.sleep(rest)
            (await client.post(f"{url}/undrain")).raise_for_status()
        say("a server falls silent")
        self.sims[1].faults.add([Delay(seconds=max(3.0, rest))])
        await asyncio.sleep(max(3.0, rest))
        self.sims[1].faults.clear()
        await asyncio.sleep(rest)
        self.phase("asked")


async def measure(options: argparse.Namespace, folder: Path, redis: RedisServer, postgres: Cluster) -> bool:
    """One run; says whether every goal was met."""
    async with simulators(options.servers, options.answer) as sims:
        write_config(folder, sims, redis.url)
        environment = environment_of(folder, postgres.url)
        _, admin = await users_at(postgres.url)
        run = Run(options, folder, sims, redis, postgres)
        run.routers = [Router(free_port(), folder / f"r{number}") for number in range(options.routers)]
        front, proxy = f"http://127.0.0.1:{(front_port := free_port())}", Router(front_port, folder)
        try:
            for router in run.routers:
                await router.start(environment)
            servers = "".join(f"  server r{one.port} 127.0.0.1:{one.port}\n" for one in run.routers)
            (folder / "haproxy.cfg").write_text(HAPROXY.format(port=front_port, servers=servers))
            proxy.pid = started([str(shutil.which("haproxy")), "-db", "-f", str(folder / "haproxy.cfg")])
            tokens = await make_users(f"http://127.0.0.1:{run.routers[0].port}", admin)
            ends, begun = asyncio.Event(), time.monotonic()
            users = [list(tokens.items())[number % USERS] for number in range(options.clients)]
            clients = [asyncio.create_task(client_loop(front, *user, run.tally, ends)) for user in users]
            before = exchanges(redis)
            watching = asyncio.create_task(run.watch())
            await run.disturb(admin, environment)
            watching.cancel()
            ends.set()
            await asyncio.gather(*clients)
            seconds = time.monotonic() - begun
            missing = await missing_rows(run)
            return report(run, seconds, missing, exchanges(redis) - min(before, exchanges(redis)))
        finally:
            for process in (*run.routers, proxy):
                process.kill(signal.SIGTERM)
            for router in run.routers:
                await until(lambda router=router: _gone(router), "a router has ended", seconds=60.0)


async def _gone(router: Router) -> bool:
    return is_gone(router.pid)


def exchanges(redis: RedisServer) -> int:
    """Calls of the script since Redis was started."""
    with redis.client() as client:
        stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


async def missing_rows(run: Run) -> set[str]:
    """Requests that were answered and have no row, once every router has written its rows."""

    def without_row() -> set[str]:
        engine = create_engine(run.postgres.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            known = {str(row[0]) for row in connection.execute(text("SELECT id FROM request_log"))}
        engine.dispose()
        return {one for one in run.tally.answered if one not in known}

    end, missing = time.monotonic() + 15.0, without_row()
    while missing and time.monotonic() < end:
        await asyncio.sleep(0.5)
        missing = without_row()
    return missing


def report(run: Run, seconds: float, missing: set[str], asked: int) -> bool:
    """Print the figures, and say whether they are what they should be."""
    tally, options = run.tally, run.options
    lost, cut = tally.lost(run.killed_at, run.gone_at)
    last = [one for one in missing if run.killed_at - 1.0 <= tally.answered[one] <= run.gone_at + _READ_LATE]
    shares = list(tally.by_user.values())
    fairness = sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))
    figures = {
        "routers": options.routers,
        "clients": options.clients,
        "seconds": round(seconds),
        "sockets of the killed router open for, ms": round((run.gone_at - run.killed_at) * 1000),
        "answered": len(tally.answered),
        "lost": len(lost),
        "cut with the killed router": cut,
        "given up at the silent server": tally.given_up(),
        "most at a server of 4 slots": run.most["asked"],
        "most while Redis was away": run.most["alone"],
        "largest wait, s": round(max(tally.waits), 1),
        "median wait, s": round(statistics.median(tally.waits), 2),
        "fairness among users": round(fairness, 3),
        "rows lost": len(missing),
        "of them of the killed router's last second": len(last),
        "exchanges with Redis since it was restarted": asked,
        "what happened": [what for _, what in EVENTS],
    }
    for name, value in figures.items():
        print(f"{name:<45} {value}")
    for moment, why in lost[:10]:
        print(f"  lost: {why} ({after_what(moment)})")
    print(json.dumps(figures))
    return not lost and max(run.most.values()) <= SLOTS and not missing and fairness >= _FAIR


async def latency(options: argparse.Namespace, folder: Path, redis: RedisServer) -> None:
    """Time requests to a server with a limit, in turn through a router with coordination and one without.

    CPU is the routers' own, which other programs on the machine change less.
    """
    times: dict[bool, list[float]] = {False: [], True: []}
    async with simulators(1, 0.0001) as sims, contextlib.AsyncExitStack() as stack:
        asking: dict[bool, tuple[Router, httpx.AsyncClient]] = {}
        for shared in times:
            home = folder / ("shared" if shared else "alone")
            home.mkdir()
            write_config(home, sims, redis.url if shared else None)
            database = f"sqlite:///{home}/db.sqlite3"
            token, _ = await users_at(database)
            router = Router(free_port(), home / "r")
            stack.callback(router.kill, signal.SIGTERM)
            await router.start(environment_of(home, database))
            asking[shared] = router, await stack.enter_async_context(client_of(token))
        before = {shared: cpu_seconds(router.pid) for shared, (router, _) in asking.items()}
        for _ in range(options.requests):
            for shared, (router, client) in asking.items():
                begun = time.perf_counter()
                answer = await client.post(f"http://127.0.0.1:{router.port}/api/chat", json=CHAT)
                times[shared].append(time.perf_counter() - begun)
                assert answer.status_code == 200, answer.text
        spent = {shared: cpu_seconds(router.pid) - before[shared] for shared, (router, _) in asking.items()}
    alone, both = (statistics.median(times[shared]) * 1000 for shared in (False, True))
    print(f"p50 without coordination {alone:.2f} ms, with {both:.2f} ms: added {both - alone:.2f} ms")
    alone, both = (spent[shared] / options.requests * 1000 for shared in (False, True))
    print(f"CPU of a request {alone:.2f} and {both:.2f} ms: added {both - alone:.2f} ms, with what happens beside it")


async def round_trips(redis_url: str, count: int) -> None:
    """Time claims of one member, each by itself and many at once, beside a bare question by the same client."""
    group = RedisGroup(redis_url, 1)
    member = group.redis(0)
    await member.beat(time.monotonic())

    async def claim() -> None:
        granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        member.claim(Scope.SERVER, "s0", 10**9, granted.set_result)
        assert await granted

    spent, redis = {}, Redis.from_url(redis_url)
    for name, ask in {"claim": claim, "ping": redis.ping}.items():
        times = [await _seconds(ask) for _ in range(count)]
        spent[name] = statistics.median(times) * 1000
    begun, before = time.perf_counter(), member.round_trips
    await asyncio.gather(*(claim() for _ in range(_AT_ONCE)))
    seconds, exchanged = time.perf_counter() - begun, member.round_trips - before
    await redis.aclose()
    await group.aclose()
    print(f"{_AT_ONCE} claims at once: {seconds:.2f} s, {exchanged} exchanges")
    print(f"p50 of a claim alone {spent['claim']:.3f} ms, of a ping {spent['ping']:.3f} ms")


async def _seconds(ask: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await ask()
    return time.perf_counter() - begun


def cpu_seconds(pid: int) -> float:
    """Seconds that a process has spent on the CPU so far."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in threads) / 1e9


def main() -> int:
    """Run it; exit code 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="half a minute with 30 clients")
    parser.add_argument("--latency", action="store_true", help="only what coordination adds to a request")
    parser.add_argument("--routers", type=int, default=3)
    parser.add_argument("--servers", type=int, default=8)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=80.0, help="of the run, without the two outages")
    parser.add_argument("--outage", type=float, default=20.0, help="seconds without Redis, and without PostgreSQL")
    parser.add_argument("--answer", type=float, default=0.6, help="scale of the servers' times")
    parser.add_argument("--requests", type=int, default=1000, help="of --latency")
    options = parser.parse_args()
    if options.short:
        options.routers, options.servers, options.clients, options.seconds, options.outage = 2, 3, 30, 12.0, 3.0
        options.answer = 0.3
    server, binaries = find_server(), find_binaries()
    if server is None or binaries is None or shutil.which("haproxy") is None:
        print("needs haproxy, postgresql and redis-server")
        return 2
    with tempfile.TemporaryDirectory(prefix="orouter-cluster-") as name, running_redis(server) as redis:
        if options.latency:
            asyncio.run(latency(options, Path(name), redis))
            asyncio.run(round_trips(redis.url, options.requests))
            return 0
        with running_cluster(binaries) as postgres:
            return 0 if asyncio.run(measure(options, Path(name), redis, postgres)) else 1


if __name__ == "__main__":
    sys.exit(main())
