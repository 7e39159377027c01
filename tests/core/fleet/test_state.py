"""The one state of a fleet: probes, breakers, slow start, retries, on a clock that the test moves."""

from __future__ import annotations

import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.notices import ServerDown, ServerLost, ServerReturned, ServerSuspended, ServerUp
from ollama_router_core.fleet.observations import observe_load_started
from ollama_router_core.fleet.probes import FALL, RISE
from ollama_router_core.fleet.runners import Load
from ollama_router_core.fleet.state import WHILE_LOADING, FleetState
from support.fleets import make_config

VERSION = b'{"version": "0.12.0"}'
MODEL = "llama3.1:8b"


def make_state(notices: list | None = None, **servers) -> FleetState:
    """Two servers, all of whose settings are defaults but for those given."""
    config = make_config({name: servers.get(name, {}) for name in ("a", "b")})
    return FleetState(config, notify=(lambda _: None) if notices is None else notices.append)


def answer(state: FleetState, name: str = "a", now: float = 0.0) -> bool:
    """A good probe."""
    return state.probe_answered(name, 200, VERSION, probe_ms=2.0, now=now)


def eject(state: FleetState, name: str = "a", now: float = 0.0) -> None:
    """Five failures in a row."""
    for _ in range(5):
        state.permit(name, now).failed(now)


@given(probes=st.lists(st.booleans(), min_size=1, max_size=60))
def test_probes_change_what_is_believed_after_three_that_fail_or_two_that_pass(probes):
    """Whatever the order, after the first result a server is up or down by the last run of equal results alone."""
    state, believed = make_state(), None
    for count in range(1, len(probes) + 1):
        passed, now = probes[count - 1], float(count)
        answer(state, now=now) if passed else state.probe_failed("a", "silent", now=now)
        last = probes[max(0, count - (RISE if passed else FALL)) : count]
        if believed is None or (len(last) == (RISE if passed else FALL) and len(set(last)) == 1):
            believed = passed
        assert state.servers["a"].up is believed


@given(status=st.integers(200, 599), version=st.booleans())
def test_a_probe_is_passed_by_an_answer_that_an_ollama_gives(status, version):
    """200 with a version; whatever else answers there is no server of ours, and is said to be none."""
    state = make_state()
    passed = status == 200 and version
    body = VERSION if version else b"<html>hello</html>"
    assert state.probe_answered("a", status, body, probe_ms=1.0, now=0.0) is passed
    assert state.servers["a"].up is passed
    assert passed or "is this Ollama?" in (state.servers["a"].error or "")


def test_what_answers_for_its_models_as_no_ollama_does_is_down_until_it_lists_some():
    """Passed probes are not enough any more, and are no news: the log does not fill while it stays what it is."""
    notices: list = []
    state = make_state(notices)
    answer(state)
    for now in range(1, 9):
        state.is_no_ollama("a", "answered /api/tags with 404: is this Ollama?", now=now)
        answer(state, now=now)
        assert answer(state, now=now)
        assert state.servers["a"].up is False
    state.update("a", partial(_with_list, now=9.0), 9.0)
    assert state.servers["a"].up
    assert [type(notice) for notice in notices] == [ServerUp, ServerDown, ServerUp]


def test_three_failed_probes_in_a_row_end_what_waits_there():
    """Refused or silent, and once for each row; an answer in between begins another."""
    notices: list = []
    state = make_state(notices)
    answer(state)
    for now in range(7):
        state.probe_failed("a", "silent", now=now, refused=now == 0)
    answer(state)
    state.probe_failed("a", "silent", now=8.0)
    assert [type(notice) for notice in notices].count(ServerLost) == 1


def test_a_server_that_returns_is_asked_for_its_models_again():
    """They may be others now; notices say when it went and came."""
    notices: list = []
    state = make_state(notices)
    answer(state)
    state.update("a", partial(_with_list, now=0.0), 0.0)
    state.probe_failed("a", "cannot connect", now=1.0, refused=True)
    assert not answer(state, now=2.0)
    assert answer(state, now=3.0)
    assert state.servers["a"].installed_at is None
    assert notices == [ServerUp("a", "0.12.0"), ServerDown("a", "cannot connect"), ServerUp("a", "0.12.0")]


def _with_list(facts, now):
    from ollama_router_core.fleet.observations import observe_tags

    return observe_tags(facts, json.dumps({"models": [{"name": MODEL, "size": 5}]}).encode(), now=now)


@given(since=st.floats(0.0, 40.0), most=st.integers(1, 64))
def test_a_slow_start_rises_from_one_to_all_in_thirty_seconds(since, most):
    """In proportion to the time since the return, and it ends."""
    state = make_state(a={"max_concurrent": most})
    answer(state), answer(state, "b")
    eject(state)
    state.permit("a", 30.0).done(30.0)
    slots = state.snapshot(30.0 + since).slots
    if since < 30.0:
        assert slots["a"] == max(1, int(most * since / 30.0))
    elif since > 30.0:
        assert "a" not in slots


def test_one_request_probes_a_server_whose_time_is_up():
    """The others get no permit until it has succeeded; notices say both."""
    notices: list = []
    state = make_state(notices)
    answer(state), answer(state, "b")
    eject(state)
    assert state.permit("a", 5.0) is None
    probe = state.permit("a", 20.0)
    assert probe.probe
    assert state.permit("a", 20.0) is None
    probe.head(200, 20.5)
    assert state.permit("a", 21.0) is not None
    assert [type(notice) for notice in notices[2:]] == [ServerSuspended, ServerReturned]


def test_a_probe_that_nobody_waits_for_lets_another_go():
    """A client that leaves says nothing about the server."""
    state = make_state()
    answer(state), answer(state, "b")
    eject(state)
    state.permit("a", 20.0).left()
    assert state.permit("a", 20.0).probe


@pytest.mark.parametrize("ends", [("done", "failed"), ("failed", "done"), ("left", "failed")])
def test_the_first_end_of_a_permit_counts(ends):
    """Whatever is said afterwards does nothing."""
    state = make_state()
    answer(state), answer(state, "b")
    first, second = ends
    for _ in range(5):
        permit = state.permit("a", 0.0)
        for end in (first, second):
            permit.left() if end == "left" else getattr(permit, end)(0.0)
    assert ("a" in state.snapshot(0.0).suspended) is (first == "failed")


def test_an_assigned_request_goes_to_a_suspended_server():
    """Somebody has said so."""
    state = make_state()
    answer(state), answer(state, "b")
    eject(state)
    assert state.permit("a", 1.0) is None
    assert state.permit("a", 1.0, forced=True) is not None


def test_when_all_are_out_those_that_take_connections_are_used():
    """A struggling server is better than none; one that refuses is not."""
    state = make_state()
    answer(state), answer(state, "b")
    for name in ("a", "b"):
        for _ in range(5):
            state.permit(name, 0.0).failed(0.0, refused=name == "b")
    assert state.permit("a", 1.0) is not None
    assert state.permit("b", 1.0) is None


def test_external_hosts_have_no_breaker():
    """Nothing could stand in for them."""
    state = make_state()
    for _ in range(20):
        state.permit("openai", 0.0).failed(0.0)
    assert not state.health.troubled
    assert state.permit("openai", 0.0) is not None


@given(active=st.integers(0, 100), waiting=st.integers(0, 100))
def test_a_fifth_of_the_requests_may_be_retries_and_three_in_any_case(active, waiting):
    """Those that wait count as well."""
    state = make_state()
    for _ in range(active):
        state.begin("a")
    taken = 0
    while state.take_retry(waiting):
        taken += 1
    assert taken == max(3, (active + waiting) // 5)


def test_a_refresh_for_an_unknown_model_happens_once_in_five_seconds():
    """However many ask for it."""
    state = make_state()
    assert [state.may_refresh(now) for now in (0.0, 0.1, 4.9, 5.0, 6.0)] == [True, False, False, True, False]


def test_loads_end_with_the_last_request_on_a_server():
    """What was being loaded for our requests is loaded or given up."""
    state = make_state()
    answer(state)
    for _ in range(2):
        state.begin("a")
    state.update("a", partial(observe_load_started, name=MODEL, now=0.0), 0.0)
    state.end("a", 1.0)
    assert state.servers["a"].loading
    state.end("a", 2.0)
    assert not state.servers["a"].loading
    assert state.in_flight.running("a") == 0


def test_requests_of_other_processes_count_in_flight():
    """And are told apart."""
    state = make_state()
    state.begin("a")
    snapshot = state.snapshot(0.0, {"a": 2, "b": 1})
    assert (snapshot.in_flight, snapshot.elsewhere) == ({"a": 3, "b": 1}, {"a": 2, "b": 1})


def test_another_config_keeps_what_is_known_of_servers_that_stay():
    """One that moved to another address is another server."""
    state = make_state()
    answer(state), answer(state, "b")
    state.reconfigure(make_config({"a": {}, "b": {}, "c": {"enabled": False}}), moved={"b"})
    assert {name: facts.up for name, facts in state.servers.items()} == {"a": True, "b": None}
    answer(state, "b")
    assert state.servers["b"].up is True


def test_a_server_that_is_removed_and_added_again_is_not_suspended():
    """Its breaker went with it; no request would probe it."""
    state = make_state()
    for _ in range(5):
        state.health.failed("a", 0.0, refused=True)
    assert state.health.state_of("a", 1.0) == "open"
    for servers in ({"b": {}}, {"a": {}, "b": {}}):
        state.reconfigure(make_config(servers))
    assert state.health.state_of("a", 1.0) == "closed"


def test_a_server_with_another_name_is_as_it_was():
    """Nobody is refused until it has been asked again; what it has in flight was begun under the name before."""
    state = make_state()
    answer(state)
    before = state.servers["a"]
    state.reconfigure(make_config({"new": {}, "b": {}}), renamed={"new": "a"})
    assert state.servers["new"] == replace(before, name="new")
    assert set(state.servers) == {"new", "b"}


def test_servers_are_probed_at_different_times():
    """Each name has its own interval, within a tenth of the setting."""
    config = Config(servers={f"s{number}": {"host": "h"} for number in range(50)})
    state = FleetState(config)
    for name in state.servers:
        answer(state, name)
    pauses = {state.probe_pause(name) for name in state.servers}
    assert len(pauses) > 40
    assert max(pauses) <= 1.1 * config.health_check_interval
    assert min(pauses) >= 0.9 * config.health_check_interval


def test_a_server_that_loads_a_model_for_us_is_asked_again_soon():
    """An answer in one piece begins when it ends: a report tells sooner that the load is over."""
    state = make_state()
    answer(state)
    usual = state.probe_pause("a")
    state.sent("a", CanonicalName("llama3.1:8b"), Load(), 1.0)
    assert state.probe_pause("a") == WHILE_LOADING < usual
    state.evicted("a", CanonicalName("llama3.1:8b"), 2.0)
    assert state.probe_pause("a") == usual
