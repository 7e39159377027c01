"""What a turn is worth, whoever waits beside it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.admission.tickets import Ticket
from ollama_router_core.admission.wait_queue import WaitQueue
from ollama_router_core.config.settings import Queue
from support.fleets import make_request

NOW = 600.0

tickets = st.lists(st.tuples(st.floats(0.0, NOW), st.sampled_from("abc")), min_size=1, max_size=40)


def join(queue: WaitQueue, waits: list[tuple[float, str]], *, batch: bool) -> list[Ticket]:
    """A ticket for each arrival and user."""
    first = len(queue)
    found = [
        Ticket(number=first + number, request=make_request(), arrived=arrived, user=user, batch=batch)
        for number, (arrived, user) in enumerate(waits)
    ]
    for one in found:
        queue.join(one)
    return found


@given(people=tickets, batch=tickets, left=st.integers(0, 40))
def test_a_batch_that_waits_changes_nobodys_weight(people, batch, left):
    """Neither how soon age counts, nor a user's share, nor the crowd; also after some of either have left."""
    queue, alone = WaitQueue(Queue()), WaitQueue(Queue())
    beside = join(queue, people, batch=False)
    late = join(queue, batch, batch=True)
    same = join(alone, people, batch=False)
    for one in (*beside[:left], *late[:left]):
        queue.leave(one.number)
    for one in same[:left]:
        alone.leave(one.number)
    assert queue.crowd == alone.crowd == len(alone)
    for one, other in zip(beside[left:], same[left:], strict=True):
        assert queue.weight(one, NOW) == alone.weight(other, NOW)
