"""Who is the first in the line of each full server, for any fleet and line: as if each were asked for each request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.admission import Admission, Ticket
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.fleet.snapshot import FleetSnapshot, SuspendedModel
from ollama_router_core.routing.filters import FULL, refused_now
from support.fleets import installed, loaded, make_config, make_facts, make_fleet, make_request

MODELS = ("one:1b", "two:1b", "three:1b")
SERVERS = ("a", "b", "c", "d")
SOME = st.sets(st.sampled_from(SERVERS))
NUMBERS = st.dictionaries(st.sampled_from(SERVERS), st.integers(0, 2))


@st.composite
def servers(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Limits of each."""
    limits, slots = st.sampled_from((None, 1, 2)), st.sampled_from((None, 1))
    return {
        name: {"max_memory_gb": 48.0, "max_concurrent": draw(limits), "num_parallel": draw(slots)} for name in SERVERS
    }


@st.composite
def fleets(draw: st.DrawFn) -> FleetSnapshot:
    """Servers that have some of the models, with what keeps requests from them."""
    has = st.sets(st.sampled_from(MODELS))
    facts = [
        make_facts(name, tuple(map(installed, draw(has))), tuple(map(loaded, draw(has))), up=draw(st.booleans()))
        for name in SERVERS
    ]
    words = SuspendedModel(until=5.0, words="no")
    suspended = {name: {canonical_name(draw(st.sampled_from(MODELS))): words} for name in draw(SOME)}
    elsewhere = draw(NUMBERS)
    return make_fleet(
        *facts,
        in_flight=elsewhere,
        elsewhere=elsewhere,
        suspended=dict.fromkeys(draw(SOME), draw(st.sampled_from((0.0, 5.0)))),
        suspended_models=suspended,
        slots=draw(NUMBERS),
        parallel=draw(NUMBERS),
        draining=frozenset(draw(SOME)),
    )


TICKETS = st.lists(st.tuples(st.sampled_from(MODELS), st.sampled_from("xyz"), st.booleans()), max_size=8)
RUNNING = st.lists(st.tuples(st.sampled_from(MODELS), st.sampled_from(SERVERS)), max_size=6)


def heads(admission: Admission, snapshot: FleetSnapshot, now: float, *, waits: bool) -> Mapping[str, float]:
    """The definition."""
    seen, found = admission.traffic(snapshot, now), dict[str, float]()
    for group in admission._queue.groups.values():
        since = admission._queue.first_since(group)
        for one in admission.selector.plan(group.sample.request, snapshot).able:
            reason = refused_now(one, seen, now, waits=waits)
            if since is not None and reason is not None and reason.code == FULL:
                found[one.name] = min(since, found.get(one.name, since))
    return found


@given(limits=servers(), snapshot=fleets(), tickets=TICKETS, running=RUNNING, late=st.booleans())
def test_heads_are_those_of_every_full_server_and_who_waits_longest_is_one(
    limits: dict[str, dict[str, Any]],
    snapshot: FleetSnapshot,
    tickets: list[tuple[str, str, bool]],
    running: list[tuple[str, str]],
    late: bool,
) -> None:
    """However many kinds wait, and also where a server is full for some models only.

    Slots are kept for who waits longest and given to who is first: if these were not one order, nobody would get any.
    """
    admission = Admission(make_config(limits, routing_strategy="fastest" if late else "priority_with_memory"))
    for number, (model, server) in enumerate(running):
        admission.bound(Ticket(number=-number - 1, request=make_request(model), arrived=0.0), server, 0.0)
    for number, (model, user, batch) in enumerate(tickets):
        one = Ticket(number=number, request=make_request(model), arrived=number * 0.1, user=user, batch=batch)
        admission._queue.join(one)
        admission._queue.granted("x", 0.35)
    found = admission.line.heads(snapshot, 2.0)
    assert found == heads(admission, snapshot, 2.0, waits=late)
    since, full = admission.line.longest_wait(snapshot, 2.0)
    assert {found[name] for name in full} <= {since}
    assert since is None or all(since <= head for head in found.values())
