"""Whether several routers ever pass a limit while they are killed: of servers' slots, and of users' requests at once.

Routers as processes on one Redis and one database, in front of simulated servers with four slots each. Clients ask
without a pause, each at a router of its own, and at the next one when that is gone; every other user may have three
requests at once. Meanwhile one router after the other is killed and started again. What is at the servers is counted
there. Needs redis-server.

    python benchmarks/overbooking.py              # three routers, 200 clients, 60 s, six kills
    python benchmarks/overbooking.py --short      # 60 clients, 12 s, one kill: the form of the tests
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cluster import (
    CHAT,
    SLOTS,
    USERS,
    Router,
    client_of,
    environment_of,
    free_port,
    is_gone,
    make_users,
    say,
    simulators,
    until,
    write_config,
)

from ollama_router_core.testing import OllamaSimulator
from support.redis_server import find_server, running_redis
from support.router import users_at

AT_ONCE = 3
_LAST = 64
"""Requests of a server that are looked at: all that may be there, and what has ended since."""


@dataclass
class Seen:
    """What clients and servers saw."""

    sims: list[OllamaSimulator]
    answered: int = 0
    refused: int = 0
    cut: int = 0
    failed: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    most_of_user: int = 0

    async def watch(self) -> None:
        """Look all the time how many requests of each limited user are at the servers."""
        while True:
            at_once = Counter(
                user
                for sim in self.sims
                for request in sim.requests_to("/api/chat")[-_LAST:]
                if request.complete
                and not request.finished
                and not request.aborted
                and (user := _limited(request.json))
            )
            self.most_of_user = max(self.most_of_user, *at_once.values(), 0)
            await asyncio.sleep(0.005)


def _limited(body: dict[str, object]) -> str:
    """The user of a request, where it is one with a limit: clients say who they are in their text."""
    text = str(body["messages"])
    return text if any(f"user{number}." in text for number in range(0, USERS, 2)) else ""


async def ask(routers: list[Router], number: int, user: str, token: str, seen: Seen, ends: asyncio.Event) -> None:
    """Ask without a pause; a router that is gone is left for the next one."""
    chat = {**CHAT, "messages": [{"role": "user", "content": f"I am {user}."}]}
    for router in itertools.cycle(routers[number % len(routers) :] + routers[: number % len(routers)]):
        async with client_of(token, f"http://127.0.0.1:{router.port}") as client:
            try:
                while not ends.is_set():
                    begun = time.monotonic()
                    answer = await client.post("/api/chat", json=chat)
                    seen.waits.append(time.monotonic() - begun)
                    seen.answered += answer.status_code == 200
                    seen.refused += answer.status_code == 429
                    if answer.status_code not in {200, 429}:
                        seen.failed.append(f"{answer.status_code} {answer.text[:100]}")
                    if answer.status_code != 200:
                        await asyncio.sleep(0.1)
            except httpx.HTTPError:
                seen.cut += 1
                await asyncio.sleep(0.1)
            else:
                return


async def disturb(routers: list[Router], environment: dict[str, str], kills: int, seconds: float) -> None:
    """Kill one router after the other, and start each again; evenly within so many seconds."""
    begun = time.monotonic()
    for number in range(kills):
        await asyncio.sleep(max(0.0, begun + seconds * (number + 0.5) / kills - time.monotonic()))
        router = routers[number % len(routers)]
        say(f"router {number % len(routers)} is killed")
        router.kill()

        async def gone(router: Router = router) -> bool:
            return is_gone(router.pid)

        await until(gone, "the killed router is gone", pause=0.002)
        await asyncio.sleep(1.0)
        await router.start(environment)
    await asyncio.sleep(max(0.0, begun + seconds - time.monotonic()))


async def measure(options: argparse.Namespace, folder: Path, redis_url: str) -> bool:
    """One run; says whether no limit was passed."""
    async with simulators(options.servers, 0.3) as sims:
        write_config(folder, sims, redis_url)
        environment = environment_of(folder, f"sqlite:///{folder}/router.sqlite3")
        _, admin = await users_at(environment["OROUTER_DATABASE_URL"])
        routers, seen, ends = (
            [Router(free_port(), folder / f"r{n}") for n in range(options.routers)],
            Seen(sims),
            asyncio.Event(),
        )
        try:
            for router in routers:
                await router.start(environment)
            tokens = await limited_users(f"http://127.0.0.1:{routers[0].port}", admin)
            users = [list(tokens.items())[number % USERS] for number in range(options.clients)]
            watching = asyncio.create_task(seen.watch())
            clients = [
                asyncio.create_task(ask(routers, number, *user, seen, ends)) for number, user in enumerate(users)
            ]
            await disturb(routers, environment, options.kills, options.seconds)
            ends.set()
            await asyncio.gather(*clients)
            watching.cancel()
            return report(options, seen)
        finally:
            for router in routers:
                router.kill(signal.SIGTERM)


async def limited_users(base: str, admin: str) -> dict[str, str]:
    """Tokens by name; every other user may have `AT_ONCE` requests at once, which each router knows a second later."""
    tokens = await make_users(base, admin)
    async with client_of(admin, base) as client:
        for number in range(0, USERS, 2):
            grants = {"grants": {"concurrent_requests": AT_ONCE}}
            (await client.patch(f"/router/users/user{number}", json=grants)).raise_for_status()
    await asyncio.sleep(1.0)
    return tokens


def report(options: argparse.Namespace, seen: Seen) -> bool:
    """Print the figures, and say whether they are what they should be."""
    most = max(sim.max_in_flight for sim in seen.sims)
    figures = {
        "routers": options.routers,
        "clients": options.clients,
        "kills": options.kills,
        "answered": seen.answered,
        "refused for a user's limit": seen.refused,
        "cut with a killed router": seen.cut,
        "failed": len(seen.failed),
        f"most at a server of {SLOTS} slots": most,
        f"most of a user of {AT_ONCE} at once": seen.most_of_user,
        "median wait, s": round(statistics.median(seen.waits), 2),
        "largest wait, s": round(max(seen.waits), 1),
    }
    for name, value in figures.items():
        print(f"{name:<45} {value}")
    for why in seen.failed[:5]:
        print(f"  failed: {why}")
    print(json.dumps(figures))
    return most <= SLOTS and seen.most_of_user <= AT_ONCE


def main() -> int:
    """Run it; exit code 1 where a limit was passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="12 s with 60 clients and one kill")
    parser.add_argument("--routers", type=int, default=3)
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=6)
    options = parser.parse_args()
    if options.short:
        options.servers, options.clients, options.seconds, options.kills = 2, 60, 12.0, 1
    program = find_server()
    if program is None:
        print("needs redis-server")
        return 2
    with tempfile.TemporaryDirectory(prefix="orouter-overbooking-") as name, running_redis(program) as redis:
        return 0 if asyncio.run(measure(options, Path(name), redis.url)) else 1


if __name__ == "__main__":
    sys.exit(main())
