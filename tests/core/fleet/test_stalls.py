"""Runners that stand still: told by answers that do not begin, long after they should have."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from msgspec.structs import replace as replace_request

from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.fleet.snapshot import ModelFacts, ModelSpeed
from ollama_router_core.fleet.stalls import Progress, Wait, patience, stall_words, stalled
from ollama_router_core.fleet.state import FleetState
from support.fleets import installed, loaded, make_config, make_facts

MODEL = canonical_name("llama3.1:8b")
SPEED = ModelSpeed(load_seconds=5.0, prefill_rate=100.0, decode_rate=10.0, answer_tokens=50.0)


def request(*, stream: bool = True, prompt_tokens: int = 1000, max_tokens: int | None = None) -> RouteRequest:
    """A request for the model."""
    return RouteRequest(
        model=MODEL, model_text="llama3.1:8b", stream=stream, prompt_tokens=prompt_tokens, max_tokens=max_tokens
    )


OTHER = canonical_name("qwen3:8b")
SLOW = ModelSpeed(load_seconds=20.0, prefill_rate=50.0, decode_rate=5.0, answer_tokens=50.0)


def patience_for(asked: RouteRequest, beside: dict[CanonicalName, int] | None = None) -> float:
    """Of a request sent at second 0."""
    return patience(Wait("a", asked, 0.0, beside or {}), lambda model: SLOW if model == OTHER else SPEED)


def test_patience_is_four_times_what_is_expected() -> None:
    """A load and the prompt; for an answer in one piece its writing, too."""
    assert patience_for(request()) == 4 * (5 + 10)
    assert patience_for(request(), {MODEL: 1}) == 4 * (5 + 10)
    assert patience_for(request(stream=False)) == 4 * (5 + 10 + 5)
    assert patience_for(request(stream=False, max_tokens=1000)) == 4 * (5 + 10 + 100)


def test_patience_covers_all_that_was_there_before() -> None:
    """Each by the speeds of its own model: its load, a prompt as long, and the whole answer."""
    assert patience_for(request(), {MODEL: 3}) == 4 * (15 + 2 * (5 + 10 + 5))
    assert patience_for(request(), {MODEL: 1, OTHER: 2}) == 4 * (15 + 2 * (20 + 20 + 10))


@given(
    st.lists(st.tuples(st.sampled_from([MODEL, OTHER]), st.floats(0.0, 30.0), st.floats(1.0, 3.9)), max_size=30),
    st.floats(0.0, 2000.0),
)
def test_a_server_that_serves_in_turn_is_never_suspected(
    arrivals: list[tuple[CanonicalName, float, float]], now: float
) -> None:
    """One after the other, each loaded anew, nearly four times as slow as is expected: nobody stands still.

    An arrival is its model, the seconds since the one before and how many times as long as expected it takes.
    """
    speeds = {MODEL: SPEED, OTHER: SLOW}
    sent, free = 0.0, 0.0
    unfinished: list[tuple[CanonicalName, float]] = []
    waits: list[Wait] = []
    signs: dict[CanonicalName, float] = {}
    for model, pause, factor in arrivals:
        sent += pause
        if sent > now:
            break
        unfinished = [one for one in unfinished if one[1] > sent]
        speed = speeds[model]
        first = max(free, sent) + factor * (speed.load_seconds + 1000 / speed.prefill_rate)
        free = first + factor * speed.answer_tokens / speed.decode_rate
        unfinished.append((model, free))
        beside = {name: sum(one[0] == name for one in unfinished) for name in speeds}
        asked = replace_request(request(), model=model)
        if first > now:
            waits.append(Wait("a", asked, sent, beside))
        else:
            signs[model] = first
    assert stalled(waits, signs, lambda wait: patience(wait, speeds.__getitem__), now) == {}


def test_a_wait_is_a_stall_when_nothing_came_of_the_model_meanwhile() -> None:
    """An answer to somebody else says that the runner lives: the request waits in Ollama's queue."""
    waits = (Wait("a", request(), 10.0), Wait("a", request(), 20.0))

    def found(now: float, signs: dict[CanonicalName, float] | None = None) -> dict[CanonicalName, float]:
        return stalled(waits, signs or {}, lambda _: 60.0, now)

    assert found(69.0) == {}
    assert found(100.0) == {MODEL: 90.0}
    assert found(100.0, {MODEL: 15.0}) == {MODEL: 80.0}
    assert found(100.0, {MODEL: 25.0}) == {}


def test_a_wait_behind_others_does_not_excuse_one_that_began_alone() -> None:
    """Each is judged by what was there when it was sent: newcomers at a frozen runner hide nothing."""
    waits = [Wait("a", request(), float(number), {MODEL: number + 1}) for number in range(20)]
    assert stalled(waits, {}, lambda wait: patience(wait, lambda _: SPEED), 61.0) == {MODEL: 61.0}


def test_the_words_tell_a_frozen_runner_from_loads_that_stand_still() -> None:
    """The second is when the model is not in memory, and something is that never goes; the remedy is named."""
    assert "may be frozen" in stall_words(MODEL, 90.0, make_facts("a", held=(loaded("llama3.1:8b"),)))
    assert "may be frozen" in stall_words(MODEL, 90.0, make_facts("a"))
    words = stall_words(MODEL, 90.0, make_facts("a", held=(loaded("qwen3:8b"),)))
    assert "loads there wait for" in words
    assert "`ollama stop qwen3:8b`" in words


def progress(pieces: int, name: str = "llama3.1:8b") -> Progress:
    """An answer of which so many pieces have come."""
    return Progress("a", canonical_name(name), "x", pieces)


def test_an_answer_that_goes_on_excuses_who_waits_for_its_runner() -> None:
    """A long answer is no frozen runner; one of which nothing more has come is no excuse."""
    state = FleetState(make_config({"a": {}}))
    state.update("a", lambda facts: replace(facts, up=True), 0.0)
    state.runners.suspect("a", [progress(10)], 900.0)
    state.runners.suspect("a", [Wait("a", request(), 0.0), progress(20)], 1000.0)
    assert state.health.models.until("a", MODEL) is None
    state.runners.suspect("a", [Wait("a", request(), 1001.0), progress(20)], 2000.0)
    assert state.health.models.until("a", MODEL) is not None


def test_while_a_load_probe_is_under_way_its_answer_decides() -> None:
    """The request that still waits does not count against the model once more with each poll."""
    state, waits = suspected()
    assert state.runners.probe_due("a", 1000.0) is not None
    before = state.health.models.to_json("a", 1000.0)[MODEL]["ejections"]
    for now in (1010.0, 1020.0, 1030.0):
        state.runners.suspect("a", waits, now)
    assert state.health.models.to_json("a", 1030.0)[MODEL]["ejections"] == before


def test_an_answer_that_goes_on_again_ends_the_suspicion() -> None:
    """At once, and a probe that waited behind that answer in vain says nothing any more."""
    state, waits = suspected()
    probe = state.runners.probe_due("a", 1000.0)
    assert probe is not None
    state.runners.suspect("a", [*waits, progress(10)], 1001.0)
    assert state.health.models.until("a", MODEL) is not None
    state.runners.suspect("a", [*waits, progress(11)], 1002.0)
    state.runners.probe_ended(probe, "no answer within 30 s", 1030.0)
    state.runners.suspect("a", [*waits, progress(12)], 1031.0)
    assert state.health.models.until("a", MODEL) is None
    assert state.runners.probe_due("a", 1031.0) is None


def test_what_comes_of_a_sibling_comes_of_the_same_runner() -> None:
    """Names on one file of weights wait for each other."""
    weights = ModelFacts(weights="f" * 64)
    facts = make_facts("a", tuple(installed(name, facts=weights) for name in ("llama3.1:8b", "mine")))
    state = FleetState(make_config({"a": {}}))
    state.update("a", lambda _: facts, 0.0)
    state.runners.suspect("a", [progress(1, "mine")], 900.0)
    state.runners.suspect("a", [Wait("a", request(), 0.0), progress(2, "mine")], 1000.0)
    assert state.health.models.until("a", MODEL) is None


def suspected(*, load_probe: bool = True, **asked: Any) -> tuple[FleetState, list[Wait]]:
    """A server on which a request has waited for a model since second 0, suspected at second 1000."""
    config = make_config({"a": {}}, load_probe=load_probe)
    state = FleetState(config)
    state.update("a", lambda facts: replace(facts, up=True), 0.0)
    waits = [Wait("a", replace_request(request(), **asked), 0.0)]
    state.runners.suspect("a", waits, 1000.0)
    return state, waits


def test_a_load_probe_asks_for_one_token_as_the_request_wants_its_model_loaded() -> None:
    """Nothing is loaded anew for it; an embedder is asked for a vector."""
    options = frozenset({("num_gpu", 20), ("shift", False)})
    state, _ = suspected(num_ctx=8192, load_options=options)
    probe = state.runners.probe_due("a", 1000.0)
    assert probe is not None
    assert (probe.path, json.loads(probe.body)) == (
        "/api/generate",
        {
            "model": "llama3.1:8b",
            "stream": False,
            "shift": False,
            "prompt": "hi",
            "raw": True,
            "options": {"num_gpu": 20, "num_ctx": 8192, "num_predict": 1},
        },
    )
    embedder = suspected(needs=frozenset({"embedding"}))[0].runners.probe_due("a", 1000.0)
    assert embedder is not None
    assert (embedder.path, json.loads(embedder.body)["input"]) == ("/api/embed", "hi")


def test_no_load_probe_is_sent_unless_the_operator_wants_it_nor_two_at_once() -> None:
    """Off by default; one for each model that is under suspicion."""
    assert suspected(load_probe=False)[0].runners.probe_due("a", 1000.0) is None
    state, _ = suspected()
    assert state.runners.probe_due("a", 1000.0) is not None
    assert state.runners.probe_due("a", 1001.0) is None
    assert state.runners.probe_due("b", 1001.0) is None


def test_an_answered_load_probe_ends_the_suspicion() -> None:
    """The model is asked for again, and the request that still waits is no reason against it."""
    state, waits = suspected()
    probe = state.runners.probe_due("a", 1000.0)
    assert probe is not None
    assert state.health.models.until("a", MODEL) is not None
    state.runners.probe_ended(probe, None, 1010.0)
    state.runners.suspect("a", waits, 1011.0)
    assert state.health.models.until("a", MODEL) is None
    assert state.runners.probe_due("a", 1011.0) is None


def test_a_load_probe_without_an_answer_keeps_the_model_out_and_comes_again() -> None:
    """Before a user's request would be tried; the words keep the remedy."""
    state, _ = suspected()
    probe = state.runners.probe_due("a", 1000.0)
    assert probe is not None
    before = state.health.models.until("a", MODEL)
    state.runners.probe_ended(probe, "no answer within 30 s", 1030.0)
    after = state.health.models.until("a", MODEL)
    assert before is not None
    assert after is not None
    assert after > before
    words = state.health.models.to_json("a", 1031.0)[MODEL]["error"]
    assert "may be frozen" in words
    assert "load probe: no answer" in words
    assert state.runners.probe_due("a", 1031.0) is None
    assert state.runners.probe_due("a", after - 1.0) is not None
    assert not state.health.models.take("a", MODEL, after + 1.0)  # a user's request is no trial meanwhile
