"""What the script of coordination costs in Redis alone: claims, returns and looks of a fleet, and its messages.

    python benchmarks/coordination.py                         # 20 routers, 1,000 servers
    python benchmarks/coordination.py --against SCRIPT.lua    # another version of the script, in turn

Times are Redis's own (`commandstats`), of one call each; messages are counted by it, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import redis

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.redis_server import find_server, running_redis

HERE = Path(__file__).parents[1] / "packages/ollama_router_server/src/ollama_router_server/coordination/exchange.lua"
PREFIX = "orouter:{bench}:"
TERMS = json.dumps({"lease": 20_000, "renewal": 100, "patience": 3_600_000, "settle": 0, "format": 1})


class Fleet:
    """Members that call one version of the script directly."""

    def __init__(self, client: redis.Redis, script: Path, members: int, servers: int) -> None:
        client.flushall()
        client.set(f"{PREFIX}epoch", 1)
        self.client, self.servers = client, [f"server-{number:04}" for number in range(servers)]
        self.digest: Any = client.script_load(script.read_text())
        self.names = [f"router-{number:02}" for number in range(members)]
        self.fences: dict[str, str] = dict.fromkeys(self.names, "")
        self.number = 0
        for name in self.names:
            self.fences[name] = self.exchange(name, [], look=True)["fence"]

    def exchange(self, name: str, operations: list[list[Any]], *, look: bool = False) -> dict[str, Any]:
        """One exchange of a member."""
        self.number += 1
        numbers = ["bench", self.number, self.number - 1]
        arguments = [name, self.fences[name], TERMS, json.dumps(operations), "1" if look else "0", "", *numbers]
        answer = json.loads(self.client.evalsha(self.digest, 1, PREFIX, *arguments))  # type: ignore[arg-type]
        assert answer["ok"], answer
        return dict(answer)

    def timed(self, rounds: int, operations: Any, *, look: bool = False) -> tuple[float, float]:
        """Microseconds of one exchange in Redis, and the messages that one sends."""
        self.client.config_resetstat()
        for number in range(rounds):
            self.exchange(self.names[number % len(self.names)], operations(number), look=look)
        stats: Any = self.client.info("commandstats")
        messages = stats.get("cmdstat_publish", {}).get("calls", 0)
        return stats["cmdstat_evalsha"]["usec"] / rounds, messages / rounds


def measure(fleet: Fleet, rounds: int) -> dict[str, tuple[float, float]]:
    """Each kind of exchange."""
    servers, members = fleet.servers, len(fleet.names)

    def of(number: int) -> str:
        return servers[number % len(servers)]

    def turn(number: int) -> list[list[Any]]:
        return [["claim", "server", of(number), 10**6], ["give", "server", of(number)]]

    found = {"a claim": fleet.timed(rounds, lambda number: [["claim", "server", of(number), 10**6]])}
    found["a return while nobody waits"] = fleet.timed(rounds, lambda number: [["give", "server", of(number)]])
    for number in range(members):
        fleet.exchange(fleet.names[number], [["wait", number + 1]])
    found["a claim and a return while all wait"] = fleet.timed(rounds, turn)
    fleet.exchange(fleet.names[0], [["take", "reserved", name, 1] for name in servers], look=True)
    found["the same where the next has reserved"] = fleet.timed(rounds, turn)
    for number in range(members):
        fleet.exchange(fleet.names[number], [["wait", -1]])
    fleet.exchange(fleet.names[0], [["give", "reserved", name] for name in servers])
    for number, name in enumerate(servers):
        fleet.exchange(fleet.names[number % members], [["take", "server", name, 4]])
    found[f"a look at {len(servers)} busy servers"] = fleet.timed(max(20, rounds // 20), lambda _: [], look=True)
    return found


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--turns", type=int, default=3, help="of each version; the medians are shown")
    parser.add_argument("--against", type=Path, help="another version of the script")
    options = parser.parse_args()
    server = find_server()
    if server is None:
        print("needs redis-server")
        return 2
    scripts = {"now": HERE} | ({"against": options.against} if options.against else {})
    taken: dict[str, list[dict[str, tuple[float, float]]]] = {name: [] for name in scripts}
    with running_redis(server) as running, running.client() as client:
        for _ in range(options.turns):
            for name, script in scripts.items():
                fleet = Fleet(client, script, options.members, options.servers)
                taken[name].append(measure(fleet, options.rounds))
    for name, turns in taken.items():
        for what in turns[0]:
            micros, messages = (statistics.median(turn[what][place] for turn in turns) for place in (0, 1))
            print(f"{name:8} {what:40} {micros:8.1f} us {messages:8.3f} messages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
