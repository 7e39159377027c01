"""What a turn is worth."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ollama_router_core.admission.tickets import Ticket
from ollama_router_core.admission.wait_queue import WaitQueue
from ollama_router_core.config.settings import Queue
from support.fleets import make_request


def ticket(number: int, arrived: float) -> Ticket:
    """A request of one user."""
    return Ticket(number=number, request=make_request(), arrived=arrived, user="alice")


@pytest.mark.parametrize(("others", "least", "most"), [(1, 50.0, 100.0), (19, 4.5, 5.5), (199, 4.5, 5.5)])
def test_a_minute_is_worth_less_in_a_line(others: int, least: float, most: float) -> None:
    """With one beside it is a reason to go first; from twenty on a turn is five times as urgent, however many wait."""
    queue, old = WaitQueue(Queue()), ticket(0, 0.0)
    queue.join(old)
    new = [ticket(number, 60.0) for number in range(1, others + 1)]
    for one in new:
        queue.join(one)
    assert least < queue.weight(old, 60.0) / queue.weight(new[0], 60.0) < most


def test_a_wait_that_began_again_ends_by_its_new_bound_alone() -> None:
    """The end of the first one is still among the deadlines when another's comes before it."""
    queue = WaitQueue(Queue())
    queue.join(replace(ticket(1, 0.0), max_wait=50.0))
    queue.join(replace(ticket(2, 0.0), max_wait=100.0))
    queue.leave(2)
    queue.join_again(replace(ticket(2, 0.0), max_wait=200.0))
    assert [one.number for one in queue.expired(60.0)] == [1]
    queue.leave(1)
    assert (queue.next_deadline(), queue.expired(199.0)) == (200.0, [])
    assert [one.number for one in queue.expired(200.0)] == [2]


def test_a_wait_that_began_again_as_before_ends_once() -> None:
    """A slot that it did not get changes nothing about it."""
    queue = WaitQueue(Queue())
    queue.join(replace(ticket(1, 0.0), max_wait=50.0))
    queue.leave(1)
    queue.join_again(replace(ticket(1, 0.0), max_wait=50.0))
    assert [one.number for one in queue.expired(60.0)] == [1]
