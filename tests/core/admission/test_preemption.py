"""A batch request of whose answer nothing has come gives its slot up to an interactive one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_router_core.admission import Admission, Dispatch, Preempt, Refusal, Ticket
from support.fleets import GIB, installed, loaded, make_config, make_facts, make_fleet, make_request

MODEL, OTHER = "llama3.1:8b", "qwen3:8b"
DISK = (installed(MODEL, 5 * GIB), installed(OTHER, 5 * GIB))
WARM = make_fleet(make_facts("a", DISK, (loaded(MODEL, 5 * GIB), loaded(OTHER, 5 * GIB))))
COLD = make_fleet(make_facts("a", DISK))
STRATEGIES = ["fastest", "least_loaded", "priority_with_memory"]


def ticket(number, arrived=0.0, *, batch=False, model=MODEL, **fields):
    """A request of either priority."""
    request = make_request(model, prompt_tokens=1000)
    own = {"user": "batch" if batch else "people", "batch": batch, "preemptible": batch, **fields}
    return Ticket(number=number, request=request, arrived=arrived, **own)


def make(strategy="fastest", preemptions=2, **server):
    """An admission over a server with one slot."""
    servers = {"a": {"max_memory_gb": 48.0, "max_concurrent": 1, "num_parallel": 1, **server}}
    return Admission(make_config(servers, routing_strategy=strategy, queue={"max_preemptions": preemptions}))


def busy(strategy="fastest", *, fleet=WARM, preemptions=2, **server):
    """One whose slot a batch request has."""
    admission = make(strategy, preemptions, **server)
    (sent,) = admission.arrive(ticket(1, batch=True), fleet, 0.0)
    assert isinstance(sent, Dispatch)
    return admission


def sent(outcomes):
    """Which tickets were sent."""
    return [outcome.ticket.number for outcome in outcomes if isinstance(outcome, Dispatch)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_goes_back_and_the_interactive_one_has_its_slot(strategy):
    """At once for the one that came, in its turn for the other, before those that came after it."""
    admission = busy(strategy)
    admission.arrive(ticket(2, 1.0, batch=True), WARM, 1.0)
    (preempt,) = admission.arrive(ticket(3, 2.0), WARM, 2.0)
    assert isinstance(preempt, Preempt)
    assert (preempt.ticket.number, preempt.server) == (1, "a")
    assert sent(admission.preempted(1, WARM, 2.0)) == [3]
    assert sent(admission.finished(3, WARM, 3.0)) == [1]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_model_s_slot_helps_where_the_server_is_what_is_full(strategy):
    """Whose slot it is does not matter then."""
    admission = busy(strategy)
    (preempt,) = admission.arrive(ticket(2, 1.0, model=OTHER), WARM, 1.0)
    assert isinstance(preempt, Preempt)
    assert sent(admission.preempted(1, WARM, 1.0)) == [2]


def test_it_is_off_unless_somebody_wants_it():
    """The default: whoever runs is left alone."""
    assert busy(preemptions=0).arrive(ticket(2, 1.0), WARM, 1.0) == ()


@pytest.mark.parametrize("fields", [{"batch": True}, {"batch": True, "user": "people"}])
def test_batch_waits_for_batch(fields):
    """Only an interactive request is worth what is lost."""
    assert busy().arrive(ticket(2, 1.0, **fields), WARM, 1.0) == ()


def test_one_that_answers_is_left_alone():
    """Its client has something of it."""
    admission = busy()
    admission.first_byte(1, WARM, 0.5)
    assert admission.arrive(ticket(2, 1.0), WARM, 1.0) == ()


def test_one_that_loads_is_left_alone():
    """The next would have to load anew."""
    admission = busy(fleet=COLD)
    assert admission.arrive(ticket(2, 1.0), COLD, 1.0) == ()


def test_one_that_must_not_be_repeated_is_left_alone():
    """Whatever its priority is; nor one on a server where a run outlives its connection."""
    admission = make()
    admission.arrive(ticket(1, batch=True, preemptible=False), WARM, 0.0)
    assert admission.arrive(ticket(2, 1.0), WARM, 1.0) == ()
    assert busy(cancels_on_disconnect=False).arrive(ticket(2, 1.0), WARM, 1.0) == ()


def test_as_often_as_the_setting_says():
    """Then it stays until it has answered."""
    admission = busy(preemptions=1)
    assert len(admission.arrive(ticket(2, 1.0), WARM, 1.0)) == 1
    assert sent(admission.preempted(1, WARM, 1.0)) == [2]
    assert sent(admission.finished(2, WARM, 2.0)) == [1]
    assert admission.arrive(ticket(3, 3.0), WARM, 3.0) == ()


def test_one_gives_way_to_each():
    """What is on its way out is not asked again; of two the one begun last goes, as less of it is lost."""
    admission = make(max_concurrent=2, num_parallel=2)
    for number in (1, 2):
        admission.arrive(ticket(number, float(number), batch=True), WARM, float(number))
    first, second, third = [admission.arrive(ticket(number, 3.0), WARM, 3.0) for number in (3, 4, 5)]
    assert [outcome.ticket.number for outcome in (*first, *second)] == [2, 1]
    assert third == ()


def test_its_time_on_a_server_is_no_wait():
    """It has waited for 100 s of 600 and run for 550: 500 s are left when it is back."""
    admission = make()
    admission.arrive(ticket(9), WARM, 0.0)
    admission.arrive(ticket(1, batch=True), WARM, 0.0)
    assert sent(admission.finished(9, WARM, 100.0)) == [1]
    admission.arrive(ticket(2, 650.0, max_wait=10_000.0), WARM, 650.0)
    admission.preempted(1, WARM, 650.0)
    assert not [one for one in admission.tick(WARM, 1149.0) if isinstance(one, Refusal)]
    assert [one.ticket.number for one in admission.tick(WARM, 1151.0) if isinstance(one, Refusal)] == [1]


def test_a_line_for_one_model_does_not_hold_up_an_interactive_request_for_another():
    """Where the server is what is full the next slot is the interactive one's, whoever came first."""
    admission = busy(preemptions=0)
    for number in range(2, 6):
        admission.arrive(ticket(number, batch=True), WARM, 0.0)
    admission.arrive(ticket(6, 1.0, model=OTHER), WARM, 1.0)
    assert sent(admission.finished(1, WARM, 2.0)) == [6]


class Server:
    """What becomes of tickets on one admission, by its outcomes alone."""

    def __init__(self, strategy):
        self.admission = make(strategy, 2, max_concurrent=2, num_parallel=2)
        self.running, self.done, self.preempted = {}, [], {}
        self.now = 0.0

    def carry_out(self, outcomes):
        """Send, and take off."""
        for outcome in outcomes:
            number = outcome.ticket.number
            if isinstance(outcome, Dispatch):
                assert number not in self.running
                self.running[number] = False
            elif isinstance(outcome, Preempt):
                assert not self.running.pop(number), "it has answered"
                self.preempted[number] = self.preempted.get(number, 0) + 1
                self.carry_out(self.admission.preempted(number, WARM, self.now))
            else:
                self.done.append(number)

    def finish(self, number):
        """It is answered."""
        del self.running[number]
        self.done.append(number)
        self.carry_out(self.admission.finished(number, WARM, self.now))


@given(
    st.sampled_from(STRATEGIES),
    st.lists(st.tuples(st.sampled_from(["batch", "interactive", "byte", "end"]), st.booleans()), max_size=40),
)
def test_every_request_is_answered_once(strategy, events):
    """In any order of events: no slot is lost or given twice, and nobody is preempted more often than the setting."""
    server, count = Server(strategy), 0
    for kind, other in events:
        server.now += 1.0
        if kind in {"batch", "interactive"}:
            count += 1
            one = ticket(count, server.now, batch=kind == "batch", model=OTHER if other else MODEL)
            server.carry_out(server.admission.arrive(one, WARM, server.now))
        elif server.running:
            number = (max if other else min)(server.running)
            if kind == "end":
                server.finish(number)
            else:
                server.running[number] = True
                server.carry_out(server.admission.first_byte(number, WARM, server.now))
        assert len(server.running) <= 2
    while server.running:
        server.finish(min(server.running))
    assert sorted(server.done) == list(range(1, count + 1))
    assert all(times <= 2 for times in server.preempted.values())
    assert server.admission.waiting == 0


def test_a_ticket_s_own_wait_holds_after_a_preemption():
    """The shorter one that its client asked for."""
    admission = make()
    admission.arrive(ticket(1, batch=True, max_wait=5.0), WARM, 0.0)
    admission.arrive(ticket(2, 100.0), WARM, 100.0)
    admission.preempted(1, WARM, 100.0)
    (refused,) = [one for one in admission.tick(WARM, 105.1) if isinstance(one, Refusal)]
    assert replace(refused.ticket, max_wait=None).number == 1
