"""The memory that workers share, and the ring of their news."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_router_core.coordination.days import DayUse
from ollama_router_core.coordination.interface import Group, Scope
from ollama_router_core.coordination.news import FactsChanged
from ollama_router_server.coordination.ring import Ring
from ollama_router_server.coordination.shared_memory import SharedMemory
from support.coordination_machine import SIZE, Coordinating


class CoordinatingWorkers(Coordinating):
    """Workers that share memory."""

    @staticmethod
    def make_group() -> Group:
        """In memory of its own."""
        return SharedMemory(SIZE)

    def teardown(self) -> None:
        """Release the memory's files."""
        if isinstance(getattr(self, "group", None), SharedMemory):
            self.group.close()


TestCoordinating = CoordinatingWorkers.TestCase
TestCoordinating.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """For three workers."""
    made = SharedMemory(3)
    yield made
    made.close()


@pytest.mark.anyio
async def test_a_clock_that_has_just_begun_tells_moments_like_any_other(memory: SharedMemory) -> None:
    """Nobody is taken for one that never beat, or has nobody waiting, or counted nothing of a day, at its zero."""
    member, other = memory.member(0), memory.member(1)
    await member.beat(0.0)
    assert memory.last_beat(0) == 0.0
    member.waits(0.0)
    other.waits(1.0)
    assert member.waits_longest()
    assert not other.waits_longest()
    known = DayUse(1, 0, 0)
    member.use("alice", 0.0, 1, 5, known)
    assert other.used("alice", 0.0, known).today == 5


@pytest.mark.anyio
async def test_a_worker_that_was_started_again_takes_nobody_for_dead_before_it_has_looked(memory: SharedMemory) -> None:
    """What its place in the memory knew went with its predecessor."""
    member, other = memory.member(0), memory.member(1)
    await member.beat(0.0)
    member.take(Scope.SERVER, "a")
    await other.beat(1000.0)
    assert other.elsewhere(Scope.SERVER, "a") == 0
    memory.forget(1)
    assert other.elsewhere(Scope.SERVER, "a") == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # threads of other tests
def test_a_forked_process_writes_into_the_same_memory(memory: SharedMemory) -> None:
    """What a child takes and tells, its parent sees; a name has the same place in both."""
    parent = memory.member(0)
    parent.take(Scope.SERVER, "known")
    child = os.fork()
    if not child:
        member = memory.member(2)
        member.take(Scope.SERVER, "new")
        member.take(Scope.SERVER, "known")
        member.drain("known", on=True)
        member.tell(FactsChanged("known"))
        os._exit(0)
    os.waitpid(child, 0)
    assert (parent.elsewhere(Scope.SERVER, "new"), parent.elsewhere(Scope.SERVER, "known")) == (1, 1)
    assert parent.drained("known")
    assert parent.news() == [FactsChanged("known")]


def test_names_beyond_the_capacity_count_nothing_and_break_nothing(memory: SharedMemory) -> None:
    """A full memory is a worker on its own, not an error."""
    one, other = memory.member(0), memory.member(1)
    for number in range(1030):
        one.take(Scope.SERVER, f"server {number}")
    assert other.elsewhere(Scope.SERVER, "server 1023") == 1
    assert other.elsewhere(Scope.SERVER, "server 1024") == 0
    one.drain("server 1029", on=True)
    assert other.drained("server 1029") is None
    one.give_back(Scope.SERVER, "server 1029")
    memory.forget(0)
    assert other.elsewhere(Scope.SERVER, "server 1023") == 0


def long_texts(least: int, most: int) -> st.SearchStrategy[bytes]:
    """Messages of a length between 16 times each."""
    return st.binary(min_size=least, max_size=most).map(lambda text: text * 16)


def make_ring() -> Ring:
    """A ring in memory of its own."""
    return Ring(memoryview(bytearray(Ring.WORDS * 8)).cast("q"))


@given(batches=st.lists(st.lists(long_texts(0, 750), max_size=30), max_size=12))
def test_a_reader_that_keeps_up_misses_nothing(batches: list[list[bytes]]) -> None:
    """Whatever the lengths, across the end of the ring; 20 messages of 12,000 bytes fit."""
    ring, position = make_ring(), 0
    for batch in batches:
        for start in range(0, len(batch), 20):
            part = batch[start : start + 20]
            for message in part:
                ring.write(message)
            messages, position = ring.read(position)
            assert messages == part


@given(messages=st.lists(long_texts(50, 1000), min_size=1, max_size=120))
def test_a_reader_that_was_overtaken_goes_on_with_what_is_left(messages: list[bytes]) -> None:
    """The newest messages, none of them damaged."""
    ring = make_ring()
    for message in messages:
        ring.write(message)
    found, position = ring.read(0)
    assert found
    assert found == messages[-len(found) :]
    assert ring.read(position) == ([], position)


def test_what_is_overwritten_while_it_is_read_is_not_taken_for_a_message() -> None:
    """The checksum finds it; the reader goes on with what is written next."""
    ring = make_ring()
    ring.write(b"first")
    ring.write(b"second")
    ring._bytes[10] ^= 0xFF
    messages, position = ring.read(0)
    assert messages == []
    ring.write(b"third")
    assert ring.read(position)[0] == [b"third"]


def test_a_message_that_would_push_out_most_others_is_dropped() -> None:
    """A quarter of the ring is the longest."""
    ring = make_ring()
    ring.write(b"kept")
    ring.write(bytes(65_536))
    assert ring.read(0)[0] == [b"kept"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # threads of other tests
def test_workers_that_charge_in_the_same_instant_keep_to_the_limit() -> None:
    """Four processes ask for 100 times 10 tokens each: of 1,000 not one is counted twice."""
    memory = SharedMemory(4)
    memory.users.of("alice")
    children = []
    for index in range(4):
        if not (child := os.fork()):
            code = 1
            try:
                for _ in range(100):
                    memory.member(index).charge("alice", 100.0, 10, per_minute=1_000, days=None, done=lambda _: None)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert sum(row.tokens for row in memory.member(0).spent("alice", 100.0)) == 1_000
    memory.close()
