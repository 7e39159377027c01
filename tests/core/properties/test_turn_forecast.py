"""When a turn comes is told whatever is known of the fleet."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_router_core.admission import Admission, Ticket
from support.fleets import GIB, installed, loaded, make_config, make_facts, make_fleet, make_request

MODEL = "llama3.1:8b"
DISK = (installed(MODEL, 5 * GIB),)
FLEET = make_fleet(make_facts("a", DISK, (loaded(MODEL, 5 * GIB),)), make_facts("b", DISK))

counts = st.dictionaries(st.sampled_from("ab"), st.integers(0, 3))
snapshots = st.builds(
    lambda slots, elsewhere, proven: replace(FLEET, slots=slots, elsewhere=elsewhere, proven=proven),
    counts,
    counts,
    st.dictionaries(st.sampled_from("ab"), st.integers(1, 4)),
)
requests = st.builds(
    make_request,
    needs=st.sampled_from([frozenset({"completion"}), frozenset({"embedding"})]),
    prompt_tokens=st.integers(0, 10_000),
)


@pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
@given(
    came=snapshots,
    asked=snapshots,
    arriving=st.lists(st.tuples(requests, st.booleans()), min_size=1, max_size=8),
    now=st.floats(0, 100),
    limit=st.integers(1, 3),
)
def test_who_waits_is_told_seconds_whatever_the_snapshot(strategy, came, asked, arriving, now, limit):
    """Slots that others keep, requests that they run, and what the servers are learned to do at once."""
    servers = {name: {"max_concurrent": limit} for name in "ab"}
    admission = Admission(make_config(servers, routing_strategy=strategy))
    for number, (request, batch) in enumerate(arriving):
        admission.arrive(Ticket(number=number, request=request, arrived=0.0, batch=batch), came, 0.0)
    places = [admission.line.place(number, asked, now) for number in range(len(arriving))]
    assert all(seconds >= 0 and math.isfinite(seconds) for _, seconds in places)
    assert sorted(rank for rank, _ in places if rank) == list(range(1, admission.waiting + 1))
