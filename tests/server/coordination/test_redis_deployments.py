"""Redis as it is deployed: behind TLS for a user with few rights, as a Cluster, behind Sentinels that fail over."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
import redis

from ollama_router_core.coordination.interface import Scope
from ollama_router_core.coordination.news import FactsChanged
from ollama_router_server.coordination.redis_member import RedisMember
from support.certificates import certificate_for_loopback
from support.eventually import eventually, eventually_async
from support.redis_group import RedisGroup
from support.redis_server import find_server
from support.waiting import wait_until

pytestmark = pytest.mark.anyio

EPOCH = "orouter:{default}:epoch"
RIGHTS = Path(__file__).parents[3] / "docs" / "how-to" / "several-routers.md"


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio."""
    return "asyncio"


@pytest.fixture
def program() -> str:
    """Redis of this machine."""
    found = find_server()
    if found is None:
        assert "CI" not in os.environ, "redis-server is not installed"
        pytest.skip("redis-server is not installed")
    return found


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What runs until the test ends."""
    with ExitStack() as stack:
        yield stack


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, low enough for a Cluster's second port, 10,000 above."""
    found: list[int] = []
    for port in range(21_000 + os.getpid() % 5_000, 55_000):
        with socket.socket() as one, socket.socket() as other, suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


@contextmanager
def server(program: str, folder: Path, *options: object, client: redis.Redis) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a folder of its own, once it answers."""
    folder.mkdir()
    with (folder / "log").open("wb") as log, client:
        process = subprocess.Popen([program, *map(str, options)], cwd=folder, stdout=log, stderr=log)

        def answers() -> bool:
            with suppress(redis.ConnectionError):
                return bool(client.ping())
            return False

        try:
            wait_until(answers, "Redis answers")
            yield process
        finally:
            process.kill()
            process.wait(20)


@contextmanager
def plain(program: str, folder: Path, port: int, *options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A server without durability at a port."""
    command = ["--port", port, "--bind", "127.0.0.1", "--save", "", *options]
    with server(program, folder, *command, client=redis.Redis("127.0.0.1", port)) as process:
        yield process


def settled(*clients: redis.Redis) -> None:
    """Let the fleet be one that exists, on the node that has it: nobody waits for it to settle."""
    for client in clients:
        with client, suppress(redis.ResponseError):  # another node has it
            client.set(EPOCH, 1)


@asynccontextmanager
async def two_members(url: str, **settings: object) -> AsyncIterator[list[RedisMember]]:
    """Two members that know of each other."""
    group = RedisGroup(url, 2, settled=False, **settings)
    members = [group.redis(index) for index in range(2)]
    try:
        await eventually_async(lambda: all_beat(members))
        yield members
    finally:
        await group.aclose()


async def all_beat(members: list[RedisMember]) -> bool:
    """Beat; whether each knows of both."""
    for member in members:
        await member.beat(time.monotonic())
    return all(not member.away and member.members == 2 for member in members)


async def claimed(member: RedisMember, limit: int) -> bool:
    """Whether a slot was granted."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    member.claim(Scope.SERVER, "a", limit, answer.set_result)
    return await answer


async def both_keep_to_a_limit(members: list[RedisMember]) -> None:
    """Three claims to two slots, news and a drain."""
    one, other = members
    await eventually_async(lambda: claimed(one, 2))
    assert [await claimed(other, 2), await claimed(one, 2)] == [True, False]
    assert await other.count("alice", 0.0, concurrent=1, per_minute=5)
    assert not await one.count("alice", 0.0, concurrent=1, per_minute=5)
    one.tell(FactsChanged("a"))
    one.drain("a", on=True)
    assert await all_beat(members)
    assert FactsChanged("a") in other.news()
    assert other.drained("a")


def rights() -> list[str]:
    """The rules for a user as the page tells them."""
    line = next(line for line in RIGHTS.read_text(encoding="utf-8").splitlines() if line.startswith("ACL SETUSER"))
    return line.replace("FLEET", "default").split()[2:]


async def test_a_user_with_the_rights_of_the_page_is_enough_over_tls(
    program: str, tmp_path: Path, running: ExitStack
) -> None:
    """No command beyond, and no key outside the fleet's hash tag; others' certificates are refused."""
    certificate, (port,) = certificate_for_loopback(tmp_path), free_ports(1)
    tls = ["--tls-cert-file", certificate, "--tls-key-file", certificate, "--tls-ca-cert-file", certificate]
    options = ["--port", 0, "--bind", "127.0.0.1", "--tls-port", port, "--tls-auth-clients", "no", "--save", "", *tls]
    admin = redis.Redis("127.0.0.1", port, ssl=True, ssl_ca_certs=str(certificate))
    running.enter_context(server(program, tmp_path / "redis", *options, client=admin))
    with redis.Redis("127.0.0.1", port, ssl=True, ssl_ca_certs=str(certificate)) as client:
        client.execute_command("ACL", "SETUSER", *[rule.replace("PASSWORD", "secret") for rule in rights()])
        client.execute_command("ACL", "SETUSER", "default", "off")
        settled(client)
        place = f"127.0.0.1:{port}/0"
        async with two_members(f"rediss://orouter:secret@{place}?ssl_ca_certs={certificate}") as members:
            stirred = asyncio.Event()
            members[1].on_change(stirred.set)
            await both_keep_to_a_limit(members)
            members[1].waits(1.0)
            await members[1].beat(0.0)
            members[0].give_back(Scope.SERVER, "a")
            async with asyncio.timeout(20):
                await stirred.wait()
    untrusted = RedisGroup(f"rediss://orouter:secret@{place}", 1, settled=False)
    member = untrusted.redis(0)
    await member.beat(0.0)
    assert member.away
    await untrusted.aclose()


async def test_a_cluster_has_a_fleet_on_one_node(program: str, tmp_path: Path, running: ExitStack) -> None:
    """Three nodes with a third of the slots each."""
    ports = free_ports(3)
    for port in ports:
        cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", 2000]
        running.enter_context(plain(program, tmp_path / str(port), port, *cluster))
    nodes = [running.enter_context(redis.Redis("127.0.0.1", port)) for port in ports]
    for number, node in enumerate(nodes):
        first, last = 16_384 * number // 3, 16_384 * (number + 1) // 3 - 1
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", ports[number])
    ready = lambda: all(b"cluster_state:ok" in node.execute_command("CLUSTER", "INFO") for node in nodes)  # noqa: E731 - it changes
    wait_until(ready, "the cluster is up")
    settled(*nodes)
    async with two_members(f"redis://127.0.0.1:{ports[0]}", cluster=True) as members:
        await both_keep_to_a_limit(members)
    assert sorted(bool(node.keys("orouter:*")) for node in nodes) == [False, False, True]


async def test_routers_follow_a_failover_of_the_sentinels(program: str, tmp_path: Path, running: ExitStack) -> None:
    """The replica that becomes the server is joined, and limits hold there."""
    first, second, sentinel = free_ports(3)
    old = running.enter_context(plain(program, tmp_path / "first", first, "--repl-diskless-sync-delay", 0))
    running.enter_context(plain(program, tmp_path / "second", second, "--replicaof", "127.0.0.1", first))
    replica = running.enter_context(redis.Redis("127.0.0.1", second))
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica has all")
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {sentinel}\nbind 127.0.0.1\nsentinel monitor fleet 127.0.0.1 {first} 1\n"
        "sentinel down-after-milliseconds fleet 300\nsentinel failover-timeout fleet 2000\n"
    )
    asking = redis.Redis("127.0.0.1", sentinel)
    running.enter_context(server(program, tmp_path / "sentinel", config, "--sentinel", client=asking))
    wait_until(lambda: asking.info("sentinel")["master0"]["slaves"] == 1, "the replica is known", seconds=40)
    settings = {"sentinels": (f"127.0.0.1:{sentinel}",), "sentinel_service": "fleet", "timeout": 0.5}
    settled(redis.Redis("127.0.0.1", first))
    async with two_members("redis:///0", **settings) as members:
        await both_keep_to_a_limit(members)
        old.kill()
        await eventually(lambda: not any(member.away for member in members))
        await eventually_async(lambda: all_beat(members))
        assert not await claimed(members[1], 2)
        assert replica.exists(EPOCH)
