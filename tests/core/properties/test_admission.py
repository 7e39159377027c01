"""Laws of admission, for any order of events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_router_core.admission import Admission, Dispatch, Ticket
from support.fleets import GIB, installed, loaded, make_config, make_facts, make_fleet, make_request

MODELS = ("small", "other", "large")
SIZES = {"small": 5 * GIB, "other": 6 * GIB, "large": 20 * GIB}
DISK = tuple(installed(model, size) for model, size in SIZES.items())
SERVERS = {"a": 24.0, "b": 24.0, "c": 8.0}


def snapshot(held):
    """Three servers with these models in memory."""
    return make_fleet(
        *(
            make_facts(name, DISK, tuple(loaded(model, SIZES[model]) for model in held.get(name, ())))
            for name in SERVERS
        )
    )


class World:
    """Drives an admission as a server would, and keeps book."""

    def __init__(self, strategy, slots, max_waiting):
        servers = {name: {"max_memory_gb": gib, "max_concurrent": slots} for name, gib in SERVERS.items()}
        queue = {"max_waiting": max_waiting, "max_wait": 1e6}
        self.admission = Admission(make_config(servers, routing_strategy=strategy, queue=queue))
        self.slots, self.max_waiting, self.now, self.number = slots, max_waiting, 0.0, 0
        self.held = {"a": ["small"], "b": [], "c": []}
        self.fleet = snapshot(self.held)
        self.waiting, self.running, self.answered = set(), {}, set()

    def take(self, outcomes):
        """Book what admission answered."""
        for outcome in outcomes:
            number = outcome.ticket.number
            assert number not in self.answered
            self.answered.add(number)
            self.waiting.discard(number)
            if isinstance(outcome, Dispatch):
                assert outcome.server == outcome.ranking[0]
                self.running[number] = (outcome.server, outcome.ticket.request.model_text)
                self.load(outcome)
        for server in SERVERS:
            assert sum(at == server for at, _ in self.running.values()) <= self.slots

    def load(self, outcome):
        """The server does as Ollama would: unload what it was asked to, then load."""
        held, model = self.held[outcome.server], outcome.ticket.request.model_text
        gone = {name.partition(":")[0] for name in outcome.unload}
        held[:] = [name for name in held if name not in gone]
        if model not in held:
            held.append(model)
        self.fleet = snapshot(self.held)

    def arrive(self, model, user):
        """One more request."""
        self.number += 1
        self.waiting.add(self.number)
        request = make_request(model, prompt_tokens=1_000)
        self.take(
            self.admission.arrive(
                Ticket(number=self.number, request=request, arrived=self.now, user=user), self.fleet, self.now
            )
        )
        assert self.admission.waiting == len(self.waiting) <= self.max_waiting

    def finish(self, which):
        """One that runs is done."""
        if self.running:
            number = sorted(self.running)[which % len(self.running)]
            del self.running[number]
            self.take(self.admission.first_byte(number, self.fleet, self.now))
            self.take(self.admission.finished(number, self.fleet, self.now))

    def leave(self, which):
        """A client goes, from the line or from a server."""
        everybody = sorted({*self.waiting, *self.running})
        if everybody:
            number = everybody[which % len(everybody)]
            self.waiting.discard(number)
            self.running.pop(number, None)
            self.answered.add(number)
            self.take(self.admission.left(number, self.fleet, self.now))

    def tick(self, seconds):
        """Time passes."""
        self.now += seconds
        self.take(self.admission.tick(self.fleet, self.now))

    def drain(self):
        """Let everything finish; ticks let promises and second thoughts happen."""
        for _ in range(400):
            if not self.waiting and not self.running:
                return
            self.finish(0)
            self.tick(60.0)


events = st.lists(
    st.tuples(st.just("arrive"), st.sampled_from(MODELS), st.sampled_from(["alice", "bob"]))
    | st.tuples(st.just("finish"), st.integers(0, 9))
    | st.tuples(st.just("leave"), st.integers(0, 9))
    | st.tuples(st.just("tick"), st.floats(0.0, 40.0)),
    max_size=40,
)


@pytest.mark.parametrize("strategy", ["fastest", "priority_with_memory", "least_loaded"])
@settings(max_examples=40, deadline=None)
@given(happened=events, slots=st.integers(1, 3), most=st.integers(0, 12))
def test_everybody_is_answered_once_within_the_bounds_and_nobody_is_forgotten(strategy, happened, slots, most):
    """Slots and line are never exceeded, no ticket is answered twice, and when all finish nobody is left waiting."""
    world = World(strategy, slots, most)
    for name, *arguments in happened:
        getattr(world, name)(*arguments)
    world.drain()
    assert not world.waiting
    assert world.admission.waiting == 0
    assert world.admission.traffic(world.fleet, world.now).in_flight == {}


@given(ahead=st.integers(0, 50_000), tokens=st.integers(0, 50_000))
def test_a_second_copy_is_loaded_where_that_is_sooner(ahead, tokens):
    """An idle server alike, with room, loads for one ticket when that is done before a slot elsewhere is free."""
    admission = Admission(make_config({name: {"max_memory_gb": 24.0} for name in "ab"}, routing_strategy="fastest"))
    fleet = make_fleet(make_facts("a", DISK, (loaded("small", SIZES["small"]),)), make_facts("b", DISK))
    first, second = (
        Ticket(number=number, request=make_request("small", prompt_tokens=count), arrived=0.0)
        for number, count in enumerate((ahead, tokens))
    )
    other = next(one for one in admission.selector.plan(second.request, fleet).able if one.name == "b")
    speed = other.speed(other.model, fleet.speeds)
    taken = ahead / speed.prefill_rate + speed.answer_tokens / speed.decode_rate
    admission.arrive(first, fleet, 0.0)
    sent = [one.server for one in admission.arrive(second, fleet, 0.0)]
    if taken > speed.load_seconds:
        assert sent == ["b"]
    if taken + tokens / speed.prefill_rate < 0.5 * speed.load_seconds:
        assert sent == []
