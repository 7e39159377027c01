"""Three routers as processes on one Redis: one line, one limit, one opinion of a server, whoever is asked."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from ollama_router_core.testing import Reset, Silence, SimulatorThread
from support.orouter import Orouter
from support.redis_server import RedisServer
from support.waiting import wait_until
from support.workers import ServedRouter, served

COUNT = 3
NARROW, FRAGILE, WIDE = "narrow:1b", "fragile:1b", "wide:1b"
"""Models on two servers of one slot each; on one that breaks; on one without a limit."""
SERVERS = {"left": NARROW, "right": NARROW, "bad": FRAGILE, "free": WIDE}


class Fleet:
    """Three routers over simulated servers, with one database and one Redis."""

    def __init__(self, first: ServedRouter, urls: list[str], servers: dict[str, SimulatorThread]) -> None:
        self.urls, self.servers = urls, servers
        self._token = first.token
        self._stack = ExitStack()
        self.admin = self._stack.enter_context(first.client(first.admin_token))
        self._pool = self._stack.enter_context(ThreadPoolExecutor(24))
        self._users = 0

    def close(self) -> None:
        """Ask nothing more."""
        self._stack.close()

    def ask(self, router: int, model: str, text: str = "Hello", *, token: str | None = None) -> Future[httpx.Response]:
        """One chat, on a connection of its own, in the background."""
        url, headers = f"{self.urls[router]}/api/chat", {"authorization": f"Bearer {token or self._token}"}
        chat = _chat(model, text)
        return self._pool.submit(httpx.post, url, json=chat, headers=headers, timeout=60, trust_env=False)

    @contextmanager
    def held(self, router: int) -> Iterator[str]:
        """A request that a narrow server never answers; its client leaves with the block. Gives the server's name."""
        free = [name for name in ("left", "right") if not self.servers[name].simulator.in_flight]
        for name in free:
            self.servers[name].simulator.misbehave(Silence(), path="/api/chat", times=1)
        address = urlsplit(self.urls[router])
        body = json.dumps(_chat(NARROW, "held")).encode()
        head = f"POST /api/chat HTTP/1.1\r\nhost: router\r\nauthorization: Bearer {self._token}\r\n"
        with socket.create_connection((str(address.hostname), int(address.port or 0))) as client:
            client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            busy = lambda: [name for name in free if self.servers[name].simulator.in_flight]  # noqa: E731 - it changes
            wait_until(lambda: len(busy()) == 1, "the request is under way")
            for name in set(free) - set(busy()):
                self.servers[name].simulator.behave()
            yield busy()[0]

    def told(self, router: int, path: str) -> Any:
        """What a router tells an admin."""
        return self.admin.get(f"{self.urls[router]}/router/{path}").json()

    def believed(self, router: int, server: str) -> dict[str, Any]:
        """What a router tells of a server."""
        found: dict[str, Any] = self.told(router, "status")["servers"][server]
        return found

    def everywhere(self, what: str, holds: Callable[[int], bool]) -> None:
        """Wait until something holds at every router."""
        for router in range(COUNT):
            wait_until(lambda router=router: holds(router), f"{what}, at router {router}")

    def user(self, **grants: int) -> str:
        """The token of a new user with limits that every router knows."""
        self._users += 1
        made = self.admin.post("/router/users", json={"name": f"user{self._users}", "grants": grants})
        token: str = made.json()["token"]
        self.everywhere("the user is known", lambda router: self.left(router, token) == grants)
        return token

    def left(self, router: int, token: str) -> dict[str, int]:
        """What a router tells a user of what is left of each limit."""
        headers = {"authorization": f"Bearer {token}"}
        told = httpx.get(f"{self.urls[router]}/router/me", headers=headers, trust_env=False).json()["limits"]
        return {one["name"]: one["remaining"] for one in told if one["limit"] is not None}


def _chat(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "stream": False, "messages": [{"role": "user", "content": text}]}


class Asked(NamedTuple):
    """A request for a narrow model, and the router and the user that it is of."""

    router: int
    text: str
    token: str | None = None


def served_in_order(fleet: Fleet, redis: RedisServer, waiting: list[Asked]) -> list[str]:
    """Have requests wait, one after the other, for a slot that is then given back; returns the order of their turns."""
    routers = {one.router for one in waiting}

    def all_are_known() -> bool:
        with redis.client() as client:
            members = [client.hgetall(key) for key in client.scan_iter("*by:*")]
        return sum(b"head:left" in one and b"head:right" in one for one in members) == len(routers)

    before = {name: len(server.simulator.requests_to("/api/chat")) for name, server in fleet.servers.items()}
    with ExitStack() as stays, ExitStack() as leaves:
        first = leaves.enter_context(fleet.held(1))
        second = stays.enter_context(fleet.held(1))
        asked: Counter[int] = Counter()
        answers = []
        for one in waiting:
            answers.append(fleet.ask(one.router, NARROW, one.text, token=one.token))
            asked[one.router] += 1
            is_in_line = lambda one=one: fleet.told(one.router, "queue")["waiting"] == asked[one.router]  # noqa: E731
            wait_until(is_in_line, f"{one.text} is in the line")
        wait_until(all_are_known, "each router's first is known")
        leaves.close()
        assert {one.result(timeout=60).headers["x-router-server"] for one in answers} == {first}
        assert first != second
    requests = fleet.servers[first].simulator.requests_to("/api/chat")[before[first] :]
    return [request.json["messages"][0]["content"] for request in requests][1:]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, one_redis_server: RedisServer) -> Iterator[Fleet]:
    """One for all tests here, as three routers take seconds to start."""
    folder = tmp_path_factory.mktemp("fleet")
    with one_redis_server.client() as client:
        client.flushall()
    with ExitStack() as running:
        servers = {name: running.enter_context(SimulatorThread(models=[model])) for name, model in SERVERS.items()}
        entries: dict[str, Any] = {name: {"host": "127.0.0.1", "port": one.port} for name, one in servers.items()}
        for name in ("left", "right"):
            entries[name]["max_concurrent"] = 1
        store = {"url": one_redis_server.url, "timeout": 2.0, "fleet": "three"}
        first = running.enter_context(served(folder, entries, coordination=store))
        others = [running.enter_context(Orouter(home=folder).serve("--port", "0")) for _ in range(COUNT - 1)]
        fleet = Fleet(first, [first.url, *others], servers)
        running.callback(fleet.close)
        members = lambda router: fleet.told(router, "status")["coordination"]["members"]  # noqa: E731
        fleet.everywhere("the others are known", lambda router: members(router) == COUNT)
        yield fleet


def test_requests_that_wait_at_three_routers_are_one_line(fleet: Fleet, one_redis_server: RedisServer) -> None:
    """Both servers are full of one router's requests; six wait by turns, for either, and are served as they arrived."""
    texts = [f"waiting {number}" for number in range(2 * COUNT)]
    waiting = [Asked(number % COUNT, text) for number, text in enumerate(texts)]
    assert served_in_order(fleet, one_redis_server, waiting) == texts


def test_users_take_turns_over_routers(fleet: Fleet, one_redis_server: RedisServer) -> None:
    """Four of one user's wait at one router, then two of another's come to another: as if all had come to one."""
    many, few = fleet.user(requests_per_minute=900), fleet.user(requests_per_minute=900)
    waiting = [Asked(0, f"many {number}", many) for number in range(4)]
    waiting += [Asked(2, f"few {number}", few) for number in range(2)]
    turns = ["many 0", "few 0", "many 1", "few 1", "many 2", "many 3"]
    assert served_in_order(fleet, one_redis_server, waiting) == turns


def test_a_server_that_one_router_suspends_is_suspended_at_all(fleet: Fleet) -> None:
    """The others ask it nothing to find out."""
    bad = fleet.servers["bad"].simulator
    bad.misbehave(Reset(), path="/api/chat")

    def in_use(router: int) -> bool:
        return bool(fleet.believed(router, "bad")["breaker"] == "closed")

    def suspended() -> bool:
        assert fleet.ask(0, FRAGILE).result(timeout=60).status_code >= 500
        return not in_use(0)

    wait_until(suspended, "it has failed often enough")
    failed = len(bad.requests_to("/api/chat"))
    fleet.everywhere("the server is suspended", lambda router: not in_use(router))
    assert len(bad.requests_to("/api/chat")) == failed


def test_requests_per_minute_are_exact(fleet: Fleet) -> None:
    """60 at once through three routers against 30: 30."""
    token = fleet.user(requests_per_minute=30)
    asked = [fleet.ask(number % COUNT, WIDE, token=token) for number in range(60)]
    assert Counter(one.result(timeout=60).status_code for one in asked) == {200: 30, 429: 30}
    fleet.everywhere("nothing is left", lambda router: fleet.left(router, token) == {"requests_per_minute": 0})


@pytest.mark.parametrize("limit", ["tokens_per_minute", "tokens_per_day"])
def test_tokens_are_counted_exactly(fleet: Fleet, limit: str) -> None:
    """Each router tells how many all have used, to the token; who has none left is refused everywhere."""
    token = fleet.user(**{limit: 1_000_000})
    asked = [fleet.ask(number % COUNT, WIDE, token=token) for number in range(12)]
    answers = [one.result(timeout=60).json() for one in asked]
    used = sum(answer["prompt_eval_count"] + answer["eval_count"] for answer in answers)
    fleet.everywhere("what was used is known", lambda router: fleet.left(router, token) == {limit: 1_000_000 - used})


def test_a_day_s_tokens_that_one_router_counted_are_refused_by_the_others_at_once(fleet: Fleet) -> None:
    """Before the database could tell them."""
    for _ in range(3):
        token = fleet.user(tokens_per_day=1)
        assert [fleet.ask(router, WIDE, token=token).result(timeout=60).status_code for router in range(COUNT)] == [
            200,
            429,
            429,
        ]


def test_a_drain_reaches_every_router_within_a_second(fleet: Fleet) -> None:
    """And its end; in the best of some tries, as a machine may be busy for a second."""

    def draining(router: int) -> bool:
        return bool(fleet.believed(router, "free")["draining"])

    def taken(on: bool) -> float:
        begun = time.monotonic()
        fleet.admin.post(f"/router/servers/free/{'drain' if on else 'undrain'}").raise_for_status()
        fleet.everywhere("the word is known", lambda router: draining(router) is on)
        return time.monotonic() - begun

    assert min(taken(number % 2 == 0) for number in range(6)) < 1.0
