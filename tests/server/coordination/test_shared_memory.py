"""The memory that workers share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ollama_router_server.coordination.shared_memory import SharedMemory


@pytest.fixture
def board() -> Iterator[SharedMemory]:
    """A board for three workers."""
    made = SharedMemory(3)
    yield made
    made.close()


def as_worker(board: SharedMemory, worker: int) -> SharedMemory:
    """The board as that worker sees it."""
    board.enter(worker)
    return board


def test_each_worker_adds_to_its_own_row_and_reads_all(board):
    """`total` is everybody's, `elsewhere` everybody else's."""
    for worker in range(3):
        as_worker(board, worker).servers.add("a", worker + 1)
    assert as_worker(board, 1).servers.total("a") == 6
    assert board.servers.elsewhere("a") == 4
    assert board.servers.total("b") == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # threads of other tests
def test_a_forked_process_writes_into_the_same_memory(board):
    """What a child adds, its parent reads; a name has the same place in both."""
    board.servers.add("known", 1)
    child = os.fork()
    if not child:
        board.enter(2)
        board.servers.add("new", 5)
        board.servers.add("known", 2)
        os._exit(0)
    os.waitpid(child, 0)
    assert (board.servers.total("new"), board.servers.total("known")) == (5, 3)


def test_a_dead_worker_has_nothing_under_way_but_its_minute_still_counts(board):
    """`forget` takes requests under way, not those of the last minute."""
    as_worker(board, 1).users.add("alice", 2)
    board.users.tick("alice", 100.2)
    board.forget(1)
    assert as_worker(board, 0).users.elsewhere("alice") == 0
    assert board.users.ticks("alice", 101.0) == [(100, 1)]


def test_requests_are_counted_by_the_second_and_forgotten_after_a_minute(board):
    """A cell of a second 61 seconds ago is not taken for one of now."""
    as_worker(board, 1)
    for moment in (100.0, 100.9, 101.5):
        board.users.tick("alice", moment)
    as_worker(board, 0)
    assert sorted(board.users.ticks("alice", 102.0)) == [(100, 2), (101, 1)]
    assert board.users.ticks("alice", 161.9) == [(101, 1)]
    board.enter(1)
    board.users.tick("alice", 161.0)  # the cell of second 100
    board.enter(0)
    assert sorted(board.users.ticks("alice", 161.9)) == [(101, 1), (161, 1)]


def test_names_beyond_the_capacity_count_nothing_and_break_nothing(board):
    """A full board is a worker on its own, not an error."""
    for number in range(70):
        board.figures.add(f"name {number}", 1)
    assert board.figures.total("name 63") == 1
    assert board.figures.total("name 64") == 0
    assert board.figures.elsewhere("name 69") == 0


def test_a_drain_is_said_and_unsaid(board):
    """Nobody was told; then on; then off."""
    assert board.drained("a") is None
    board.drain("a", on=True)
    assert as_worker(board, 2).drained("a") is True
    board.drain("a", on=False)
    assert board.drained("a") is False
