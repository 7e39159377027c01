"""Laws of `decide`, for any fleet and any request."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.selector import ServerSelector, decide
from support.fleets import LLAMA_70B, SIZE_70B, installed, make_config, make_facts, make_fleet, make_request
from support.routing_strategies import NAMES, fleets, requests

NOW = 50.0
LARGE = (installed("llama3.1:70b", SIZE_70B, facts=LLAMA_70B),)
PROPOSED = re.compile(r"num_ctx (\d+)\) it fits on (\w+)$")


def comparable(decision: Decision) -> tuple:
    """What two equal answers must share."""
    return decision.ranking, sorted((one.server, one.verdict, one.text) for one in decision.verdicts)


@given(fleets(), requests, st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_order_of_servers_plays_no_part(fleet, request, tiebreak, random):
    """Shuffling the facts changes nothing; shuffling the config neither, unless `first_enabled` speaks of order."""
    config, snapshot = fleet
    config = config.model_copy(update={"when_nothing_fits": "refuse"})
    names = list(config.servers)
    random.shuffle(names)
    shuffled = config.model_copy(update={"servers": {name: config.servers[name] for name in names}})
    facts = FleetSnapshot(
        servers={name: snapshot.servers[name] for name in names},
        in_flight=snapshot.in_flight,
        suspended=snapshot.suspended,
        draining=snapshot.draining,
    )
    first = decide(request, snapshot, config, now=NOW, tiebreak=tiebreak)
    assert comparable(decide(request, facts, shuffled, now=NOW, tiebreak=tiebreak)) == comparable(first)


@given(fleets(), requests)
def test_every_server_is_in_the_trace_exactly_once(fleet, request):
    """Nobody is left out and nobody is judged twice."""
    config, snapshot = fleet
    decision = decide(request, snapshot, config, now=NOW)
    assert sorted(verdict.server for verdict in decision.verdicts) == sorted(config.servers)


@given(fleets(), requests)
def test_each_ranked_server_passed_every_filter(fleet, request):
    """Ranked servers are exactly those whose verdict is not a refusal, the chosen one first."""
    config, snapshot = fleet
    decision = decide(request, snapshot, config, now=NOW)
    able = [verdict.server for verdict in decision.verdicts if verdict.verdict in {"chosen", "possible"}]
    assert sorted(able) == sorted(decision.ranking)
    chosen = [verdict.server for verdict in decision.verdicts if verdict.verdict == "chosen"]
    assert chosen == ([decision.server] if decision.server else [])


@given(st.lists(st.integers(38, 90), min_size=1, max_size=4), st.integers(4_097, 200_000))
def test_a_context_that_is_proposed_would_be_taken(limits, asked):
    """On the server that is named, and no larger usual one that was not asked for anywhere."""
    fleet = make_fleet(*(make_facts(f"s{index}", LARGE) for index in range(len(limits))))
    config = make_config({f"s{index}": {"max_memory_gb": limit} for index, limit in enumerate(limits)})
    error = decide(make_request("llama3.1:70b", num_ctx=asked), fleet, config, now=NOW).error
    told = None if error is None else PROPOSED.search(error.message)
    fitting = [
        context
        for context in (2**power for power in range(12, 18))
        if context < asked
        and decide(make_request("llama3.1:70b", num_ctx=context), fleet, config, now=NOW).error is None
    ]
    assert error is None or (told is None) == (not fitting)
    if told is not None:
        proposed, server = int(told[1]), told[2]
        assert proposed == max(fitting)
        again = decide(make_request("llama3.1:70b", num_ctx=proposed), fleet, config, now=NOW)
        assert server in again.ranking


@given(fleets(), requests)
def test_refused_alone_means_refused_in_company(fleet, request):
    """A filter looks at one server: what the others are like never lets a refused one in."""
    config, snapshot = fleet
    config = config.model_copy(update={"when_nothing_fits": "refuse"})
    together = decide(request, snapshot, config, now=NOW).ranking
    for name in config.servers:
        single = config.model_copy(update={"servers": {name: config.servers[name]}})
        assert (name in together) == (decide(request, snapshot, single, now=NOW).server == name)


@given(fleets(), requests)
def test_a_disabled_or_down_server_never_wins(fleet, request):
    """Not by strategy, whatever the rest looks like."""
    config, snapshot = fleet
    config = config.model_copy(update={"when_nothing_fits": "refuse"})
    server = decide(request, snapshot, config, now=NOW).server
    if server is not None:
        assert config.servers[server].enabled
        assert snapshot.servers[server].up
        assert server not in snapshot.draining
        assert snapshot.suspended.get(server, 0.0) <= NOW


@given(fleets(), requests, st.sampled_from(NAMES), st.floats(0.1, 100.0))
def test_raising_a_memory_limit_removes_no_candidate(fleet, request, name, more):
    """More room never makes a server unfit."""
    config, snapshot = fleet
    config = config.model_copy(update={"when_nothing_fits": "refuse"})
    server = config.servers.get(name)
    if server is None or server.max_memory_gb is None:
        return
    roomier = server.model_copy(update={"max_memory_gb": server.max_memory_gb + more})
    raised = config.model_copy(update={"servers": {**config.servers, name: roomier}})
    before = set(decide(request, snapshot, config, now=NOW).ranking)
    assert before <= set(decide(request, snapshot, raised, now=NOW).ranking)


@given(fleets(), requests, st.integers(0, 100))
def test_deciding_twice_gives_the_same_answer(fleet, request, tiebreak):
    """No hidden state: an equal snapshot, built anew, gives an equal decision."""
    config, snapshot = fleet
    again = replace(snapshot, servers=dict(snapshot.servers))
    first = decide(request, snapshot, config, now=NOW, tiebreak=tiebreak)
    assert comparable(decide(request, again, config, now=NOW, tiebreak=tiebreak)) == comparable(first)


@given(fleets(), requests)
def test_an_empty_ranking_has_an_error_and_the_other_way_round(fleet, request):
    """Callers may rely on one or the other."""
    config, snapshot = fleet
    decision = decide(request, snapshot, config, now=NOW)
    assert (decision.error is None) == bool(decision.ranking)


@given(fleets(), requests, requests, st.integers(0, 100))
def test_what_a_selector_remembers_never_changes_an_answer(fleet, earlier, request, tiebreak):
    """A selector that has decided before, on these facts and on others, decides as a new one does."""
    config, snapshot = fleet
    used = ServerSelector(config)
    used.decide(earlier, snapshot, now=NOW)
    used.decide(request, replace(snapshot, servers={}), now=NOW)
    first = next(iter(snapshot.servers.values()))
    changed = {**snapshot.servers, first.name: replace(first, up=not first.up)}
    used.decide(request, replace(snapshot, servers=changed), now=NOW)
    fresh = decide(request, snapshot, config, now=NOW, tiebreak=tiebreak)
    assert comparable(used.decide(request, snapshot, now=NOW, tiebreak=tiebreak)) == comparable(fresh)


@given(fleets(), requests)
def test_priority_wins_where_nobody_works(fleet, request):
    """Under `priority_with_memory` an idle fleet goes by health, priority, warmth: the meaning of imported configs."""
    config, snapshot = fleet
    config = config.model_copy(update={"when_nothing_fits": "refuse", "routing_strategy": "priority_with_memory"})
    idle = replace(snapshot, in_flight={})
    ranking = decide(request, idle, config, now=NOW).ranking
    plan = {one.name: one for one in ServerSelector(config).plan(request, idle).able}
    keys = [(plan[name].health_tier, plan[name].server.priority, plan[name].warmth) for name in ranking]
    assert keys == sorted(keys)


@given(fleets(), requests, st.sampled_from(NAMES), st.integers(1, 40))
def test_more_work_never_makes_a_server_more_attractive(fleet, request, name, more):
    """Under `priority_with_memory`: one that is passed over stays so when it gets more to do."""
    config, snapshot = fleet
    config = config.model_copy(update={"when_nothing_fits": "refuse", "routing_strategy": "priority_with_memory"})
    busy = {**snapshot.in_flight, name: snapshot.in_flight.get(name, 0) + more}
    before = decide(request, _serving(snapshot, snapshot.in_flight, request), config, now=NOW).ranking
    after = decide(request, _serving(snapshot, busy, request), config, now=NOW).ranking
    if name in after:
        assert set(before[: before.index(name)]) <= set(after[: after.index(name)])


def _serving(snapshot, in_flight, request):
    """The fleet with all its requests for one model."""
    active = {name: {request.model: count} for name, count in in_flight.items() if count and request.model}
    return replace(snapshot, in_flight=in_flight, active=active)
