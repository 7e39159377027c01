"""The order between the queues of several workers: whoever has waited longest gets the next slot."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_router_core.admission import Admission, Dispatch, Ticket
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.coordination.in_process import InProcess
from ollama_router_core.fleet.observations import observe_load_finished, observe_tags
from ollama_router_core.fleet.runners import Load
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from support.fleets import make_config, make_request
from support.storage import FakeClock

MODEL = CanonicalName("llama3.1:8b")
TAGS = b'{"models": [{"name": "llama3.1:8b", "size": 5000000000, "digest": "d"}]}'
CONFIG = make_config({"a": {"max_concurrent": 1}, "b": {"enabled": False}}, routing_strategy="priority_with_memory")


class Worker:
    """The fleet and the queue of one worker; `step` is what it does several times a second."""

    def __init__(self, group: InProcess, index: int, clock: FakeClock) -> None:
        self.clock = clock
        self.group = group
        upstream: Any = HttptoolsUpstream()
        self.fleet = FleetService(
            config=CONFIG, targets={}, upstream=upstream, clock=clock, coordination=group.member(index)
        )
        self.fleet.state.probe_answered("a", 200, b'{"version":"0.32.0"}', probe_ms=1.0, now=clock.now)
        self.fleet.update("a", lambda facts: observe_tags(facts, TAGS, now=clock.now))
        self.admission = Admission(CONFIG)
        self.running: list[int] = []
        self.numbers = iter(range(index * 1000, index * 1000 + 1000))

    def ask(self) -> None:
        """A request arrives."""
        ticket = Ticket(number=next(self.numbers), request=make_request(), arrived=self.clock.now)
        self._go(self.admission.arrive(ticket, self.fleet.snapshot, self.clock.now))

    def finish(self) -> None:
        """The oldest running request ends."""
        self.fleet.end("a")
        self._go(self.admission.finished(self.running.pop(0), self.fleet.snapshot, self.clock.now))

    def look(self) -> None:
        """Look whether somebody may go."""
        self._go(self.admission.changed(self.fleet.snapshot, self.clock.now))

    def step(self) -> None:
        """Tell the others how long requests wait here."""
        self.fleet.waits(*self.admission.line.longest_wait(self.fleet.snapshot, self.clock.now))

    def _go(self, outcomes: Any) -> None:
        for outcome in outcomes:
            assert isinstance(outcome, Dispatch)
            self.fleet.begin(outcome.server)
            self.running.append(outcome.ticket.number)


@pytest.fixture
def workers() -> tuple[Worker, Worker]:
    """Two with one server that takes one request at once."""
    clock, group = FakeClock(), InProcess("router", b"secret", size=2)
    return Worker(group, 0, clock), Worker(group, 1, clock)


def wait_in(worker: Worker, *others: Worker) -> None:
    """A request arrives a second later and has to wait, which all workers have told each other."""
    worker.clock.advance(1.0)
    worker.ask()
    for one in (worker, *others):
        one.step()


def test_the_slot_of_one_worker_goes_to_the_other_where_a_request_has_waited_longer(
    workers: tuple[Worker, Worker],
) -> None:
    """Neither the younger one here nor a newcomer overtakes it; then the younger one is the next."""
    here, there = workers
    here.ask()
    wait_in(there, here)
    wait_in(here, there)
    assert (len(here.running), len(there.running)) == (1, 0)
    here.finish()
    here.ask()
    here.look()
    assert here.running == []
    there.look()
    assert len(there.running) == 1
    here.look()
    assert here.running == []
    here.step(), there.step()
    there.finish()
    here.look()
    assert here.running == [1]
    assert here.fleet.snapshot.in_flight["a"] == 1


def test_a_slot_is_reserved_only_by_the_worker_whose_request_has_waited_longest(
    workers: tuple[Worker, Worker],
) -> None:
    """So that one slot is reserved, however many wait."""
    here, there = workers
    here.ask()
    wait_in(there, here)
    wait_in(here, there)
    assert there.fleet.snapshot.slots == {}
    assert here.fleet.snapshot.slots == {"a": 0}
    assert here.fleet.snapshot.in_flight == {"a": 1}


def test_who_waits_while_another_worker_reserves_the_only_slot_is_told_its_turn(
    workers: tuple[Worker, Worker],
) -> None:
    """No slot at all is left for it now; it waits for what runs and for its turn all the same."""
    here, there = workers
    here.fleet.update("a", lambda facts: observe_load_finished(facts, name=MODEL, load=Load(), now=here.clock.now))
    here.ask()
    wait_in(there, here)
    assert here.fleet.snapshot.slots == {"a": 0}
    here.ask()
    rank, seconds = here.admission.line.place(1, here.fleet.snapshot, here.clock.now)
    assert (rank, seconds > 0) == (1, True)


def test_a_worker_that_is_gone_reserves_nothing(workers: tuple[Worker, Worker]) -> None:
    """Its queue is gone with it."""
    here, there = workers
    here.ask()
    wait_in(there, here)
    wait_in(here, there)
    here.group.forget(1)
    here.finish()
    assert len(here.running) == 1


def test_when_nobody_waits_any_more_nothing_is_reserved(workers: tuple[Worker, Worker]) -> None:
    """A client that waited may leave."""
    here, there = workers
    here.ask()
    wait_in(there, here)
    assert here.fleet.snapshot.slots == {"a": 0}
    there.admission.left(1000, there.fleet.snapshot, there.clock.now)
    there.step()
    assert here.fleet.snapshot.slots == {}


def test_no_slot_stays_empty_while_somebody_waits(workers: tuple[Worker, Worker]) -> None:
    """Forty requests in any order over two queues: each gets its turn, one after the other, oldest first."""
    workers[0].ask()
    for number in range(40):
        wait_in(*(workers if number % 3 else reversed(workers)))
    served: list[tuple[int, int]] = []
    for _ in range(41):
        (busy,) = [worker for worker in workers if worker.running]
        served.append((workers.index(busy), busy.running[0]))
        busy.finish()
        for _ in range(2):
            for worker in workers:
                worker.look()
                worker.step()
        assert sum(len(worker.running) for worker in workers) == (1 if len(served) < 41 else 0)
    assert len(set(served)) == 41
