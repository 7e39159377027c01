"""A server that has another name after a reload is the same server to every process, over each implementation."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from ollama_router_core.config.settings import Config
from ollama_router_core.coordination.interface import Coordination, Group, Scope
from ollama_router_core.fleet.state import FleetState
from ollama_router_server.fleet.sharing import FleetSharing

pytestmark = pytest.mark.anyio

LIMIT = 4
RUNNING = (2, 1, 1)


@pytest.fixture
def anyio_backend() -> str:
    """Nothing here depends on the event loop."""
    return "asyncio"


class Process:
    """What one process believes and shares."""

    address = 7
    """The server's address."""

    def __init__(self, member: Coordination, name: str = "a") -> None:
        self.member = member
        self.name = name
        self.later = 0.0
        self.state = FleetState(config_of(name))
        self.sharing = FleetSharing(
            self.state, member, lambda: time.monotonic() + self.later, lambda: {self.name: self.address}
        )

    def begin(self, name: str) -> None:
        """A request goes to a server."""
        self.state.begin(name)
        self.sharing.begin(name)

    def end(self, name: str) -> None:
        """It has ended."""
        self.state.end(name, time.monotonic())
        self.sharing.end(name)

    def rename(self, new: str, old: str) -> None:
        """The config has another name for the server."""
        self.sharing.renamed({new: old})
        self.state.reconfigure(config_of(new), renamed={new: old})
        self.name = new

    def running(self, name: str) -> int:
        """How many requests of all processes it believes to run at a server."""
        return self.sharing.snapshot().in_flight.get(name, 0)

    async def claim(self, name: str) -> bool:
        """Ask for a slot."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.sharing.claim(name, LIMIT, answer.set_result)
        return await answer


def config_of(name: str) -> Config:
    """One server."""
    return Config.model_validate({"servers": {name: {"host": "one", "max_concurrent": LIMIT}}})


async def beats(processes: Sequence[Process | Exchanging]) -> None:
    """Each knows of all that the others did before."""
    for process in (*processes, *processes):
        await process.member.beat(time.monotonic())


async def hear(processes: Sequence[Process | Exchanging]) -> None:
    """The same, and of what they told."""
    await beats(processes)
    for process in processes:
        for news in process.member.news():
            process.sharing.hear(news)
    await beats(processes)


async def test_requests_that_run_count_under_each_new_name(make_group: Callable[[int], Group]) -> None:
    """No process sees a free slot until one of them ends, and then each is given back once."""
    group = make_group(len(RUNNING))
    processes = [Process(group.member(index)) for index in range(len(RUNNING))]
    for process, count in zip(processes, RUNNING, strict=True):
        for _ in range(count):
            process.begin("a")
    names = ["a", "b", "c"]
    for old, new in pairwise(names):
        for process in processes:
            process.rename(new, old)
        await beats(processes)
        assert [process.running(new) for process in processes] == [LIMIT] * len(processes)
        assert not any([await process.claim(new) for process in processes])
    processes[0].end("a")
    await beats(processes)
    assert [process.running("c") for process in processes] == [LIMIT - 1] * len(processes)
    processes[0].end("a")
    for process in processes[1:]:
        process.end("a")
    await beats(processes)
    assert [process.running(name) for process in processes for name in names] == [0] * 9
    assert [process.member.elsewhere(Scope.SERVER, name) for process in processes for name in names] == [0] * 9
    assert sum([await process.claim("c") for process in processes for _ in range(LIMIT)]) == LIMIT


@pytest.mark.parametrize("seed", range(4))
async def test_no_limit_is_passed_while_processes_take_up_a_name_one_by_one(
    make_group: Callable[[int], Group], seed: int
) -> None:
    """Whoever asks and ends meanwhile, however long it takes; and all slots are there in the end."""
    chance = random.Random(seed)  # noqa: S311 - of a test
    group = make_group(3)
    processes = [Process(group.member(index)) for index in range(3)]
    running: list[tuple[Process, str]] = []
    await beats(processes)
    for new, late in zip("bcb", [*chance.sample(processes, 3)], strict=True):
        others = [process for process in processes if process is not late]
        for process in (*others, late):
            process.rename(new, process.name)
            for _ in range(20):
                if running and chance.random() < 0.3:
                    ended, name = running.pop(chance.randrange(len(running)))
                    ended.end(name)
                    continue
                asking = chance.choice(processes)
                if await asking.claim(asking.name):
                    asking.state.begin(asking.name)
                    running.append((asking, asking.name))
                assert len(running) <= LIMIT
            await hear(processes)
            pause = chance.choice([0.0, 3.0, 6.0, 12.0])
            for each in processes:
                each.later += pause
    for ended, name in running:
        ended.end(name)
    await beats(processes)
    assert [process.member.elsewhere(Scope.SERVER, name) for process in processes for name in "abc"] == [0] * 9
    assert sum([await process.claim("b") for process in processes for _ in range(LIMIT)]) == LIMIT


@pytest.mark.parametrize("late", [0.0, 3.0, 6.0, 12.0])
async def test_a_process_that_starts_with_another_name_passes_no_limit(
    make_group: Callable[[int], Group], late: float
) -> None:
    """Others have the former one for as long as they like, also where a second such process comes later."""
    group = make_group(4)
    processes = [Process(group.member(index)) for index in range(2)]
    await beats(processes)
    for process in processes:
        process.begin("a")
    running = 2

    async def claims() -> int:
        await beats(processes)
        return sum([await process.claim(process.name) for process in processes])

    for index in (2, 3):
        for process in processes:
            process.sharing.remember()
        await beats(processes)
        processes.append(Process(group.member(index), "b"))
        processes[-1].later = processes[0].later
        await beats(processes)
        processes[-1].sharing.recall()
        running += await claims() if index == 2 else 0
        assert running <= LIMIT
        await hear(processes)
        for process in processes:
            process.later += late
    for _ in range(3):
        running += await claims()
        assert running == LIMIT
        await hear(processes)
        for process in processes:
            process.later += 4.0


@pytest.mark.parametrize(("address", "drained"), [(Process.address, True), (8, None)])
async def test_a_drain_is_known_to_who_starts_with_another_name(
    make_group: Callable[[int], Group], address: int, drained: bool | None
) -> None:
    """It is the same server; one at another address is not."""
    group = make_group(2)
    process = Process(group.member(0))
    await beats([process])
    process.member.drain("a", on=True)
    process.sharing.remember()
    await beats([process])
    newcomer = Process(group.member(1), "b")
    newcomer.address = address
    await beats([newcomer])
    newcomer.sharing.recall()
    assert newcomer.member.drained("b") is drained


async def test_a_name_that_another_server_gets_frees_nothing_of_the_former_one(
    make_group: Callable[[int], Group],
) -> None:
    """Requests of both end under one name: what runs at the renamed server counts until as many have ended."""
    processes = [Process(member) for member in map(make_group(2).member, range(2))]
    first = processes[0]
    for _ in range(2):
        first.begin("a")
    first.rename("b", "a")
    first.begin("a")  # another server
    first.end("a")
    await hear(processes)
    assert [process.running("a") for process in processes[1:]] == [2]
    for _ in range(2):
        first.end("a")
    await beats(processes)
    assert [process.running("a") for process in processes[1:]] == [0]


async def test_a_new_name_that_only_one_had_is_left_by_all(make_group: Callable[[int], Group]) -> None:
    """A config that is rolled back before the others took it up: they go by the old name again, too."""
    processes = [Process(member) for member in map(make_group(2).member, range(2))]
    processes[0].rename("b", "a")
    await hear(processes)
    processes[0].rename("a", "b")
    await hear(processes)
    for each in processes:
        each.later += 60.0
    await beats(processes)
    taken = 0
    for process in processes * LIMIT:
        taken += await process.claim("a")
        await beats(processes)
    assert taken == LIMIT


@pytest.mark.parametrize("names", ["aba", "abcb", "abab"])
async def test_a_name_that_comes_back_counts_each_request_once(make_group: Callable[[int], Group], names: str) -> None:
    """A config that is rolled back makes no server fuller than it is."""
    processes = [Process(member) for member in map(make_group(2).member, range(2))]
    for _ in range(2):
        processes[0].begin("a")
    for old, new in pairwise(names):
        for process in processes:
            process.rename(new, old)
        await beats(processes)
        assert [process.running(new) for process in processes] == [2, 2]
    for _ in range(2):
        processes[0].end("a")
    await beats(processes)
    assert [process.running(name) for process in processes for name in "abc"] == [0] * 6


class Exchanging:
    """A process whose two servers, known here by their addresses, may exchange their names."""

    def __init__(self, member: Coordination) -> None:
        self.member = member
        self.names = {1: "a", 2: "b"}
        self.later = 0.0
        self.running: list[str] = []
        self.state = FleetState(TWO)
        self.sharing = FleetSharing(self.state, member, lambda: time.monotonic() + self.later, self.addresses)

    def addresses(self) -> dict[str, int]:
        """The addresses by the names."""
        return {name: address for address, name in self.names.items()}

    def exchange(self) -> None:
        """The config has the other name for each, as `Services` has the fleet and its slots take it up."""
        taken = {"a": "b", "b": "a"}
        self.names = {address: taken[name] for address, name in self.names.items()}
        self.sharing.renamed(taken, taken=taken)
        began, self.running = self.running, []
        for name in began:
            self.running.append(taken[name])
            self.state.begin(taken[name])
            self.state.end(name, time.monotonic())
            self.sharing.moved(name, taken[name])
        self.state.reconfigure(TWO, moved=taken, renamed=taken)

    def begin(self, name: str) -> None:
        """A request goes to a server."""
        self.running.append(name)
        self.state.begin(name)
        self.sharing.begin(name)

    def end_of(self, name: str) -> None:
        """It has ended."""
        self.state.end(name, time.monotonic())
        self.sharing.end(name)

    async def claim(self, address: int) -> bool:
        """Ask for a slot of the server at an address."""
        name = self.names[address]
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.sharing.claim(name, LIMIT, answer.set_result)
        if await answer:
            self.running.append(name)
            self.state.begin(name)
        return answer.result()


TWO = Config.model_validate({"servers": {name: {"host": name, "max_concurrent": LIMIT} for name in "ab"}})


def at(processes: list[Exchanging], address: int) -> int:
    """Requests of all that run at an address."""
    return sum(process.running.count(process.names[address]) for process in processes)


@pytest.mark.parametrize("seed", range(4))
async def test_no_limit_is_passed_while_servers_exchange_their_names(
    make_group: Callable[[int], Group], seed: int
) -> None:
    """Whoever takes it up when, asks and ends meanwhile; some seconds after the last one all slots are there again."""
    chance = random.Random(seed)  # noqa: S311 - of a test
    processes = [Exchanging(member) for member in map(make_group(3).member, range(3))]
    await beats(processes)
    for _ in range(2):
        for process in chance.sample(processes, 3):
            process.exchange()
            for _ in range(16):
                asking, address = chance.choice(processes), chance.choice((1, 2))
                if asking.running and chance.random() < 0.3:
                    asking.end_of(asking.running.pop(chance.randrange(len(asking.running))))
                else:
                    await asking.claim(address)
                assert max(at(processes, 1), at(processes, 2)) <= LIMIT
            await hear(processes)
            pause = chance.choice([0.0, 3.0, 6.0, 12.0])
            for each in processes:
                each.later += pause
    for each in processes:
        each.later += 12.0
        each.sharing.waits(None, frozenset())
    await beats(processes)
    for address in (1, 2):
        for process in processes * LIMIT:
            await process.claim(address)
            await beats(processes)
        assert at(processes, address) == LIMIT


async def test_a_process_that_starts_with_names_exchanged_passes_no_limit(make_group: Callable[[int], Group]) -> None:
    """It has the others' names for the servers from what they keep for those that come."""
    group = make_group(2)
    first = Exchanging(group.member(0))
    await beats([first])
    for _ in range(LIMIT):
        first.begin("a")
    first.sharing.remember()
    await beats([first])
    other = Exchanging(group.member(1))
    other.names = {1: "b", 2: "a"}
    await beats([other])
    other.sharing.recall()
    for pause in (0.0, 3.0, 3.0, 6.0):
        for process in (first, other):
            process.later += pause
            process.sharing.waits(None, frozenset())
        await hear([first, other])
        assert not await other.claim(1)
    assert await other.claim(2)


async def test_a_claim_that_is_refused_after_its_server_was_renamed_holds_nothing(
    make_group: Callable[[int], Group],
) -> None:
    """It was counted while it was under way."""
    process = Process(make_group(1).member(0))
    await beats([process])
    process.state.begin("a")  # as `FleetService.claim` does until there is an answer
    refused: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    if process.member.asks:
        process.sharing.claim("a", 0, refused.set_result)
        process.rename("b", "a")
    else:
        process.rename("b", "a")
        process.sharing.claim("a", 0, refused.set_result)
    assert not await refused
    process.state.end("a", time.monotonic())
    await beats([process])
    assert process.running("b") == 0
    assert [await process.claim("b") for _ in range(LIMIT + 1)] == [True] * LIMIT + [False]
