"""Runners that stand still: told by answers that do not begin, long after they should have."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as replace_request

from ollama_router_core.api.model_names import canonical_name
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


def test_patience_is_four_times_what_is_expected() -> None:
    """A load and the prompt; for an answer in one piece its writing, too; and all that may be before it."""
    assert patience(request(), SPEED, running=1) == 4 * (5 + 10)
    assert patience(request(stream=False), SPEED, running=1) == 4 * (5 + 10 + 5)
    assert patience(request(stream=False, max_tokens=1000), SPEED, running=1) == 4 * (5 + 10 + 100)
    assert patience(request(), SPEED, running=3) == 4 * (5 + 30)


def test_a_wait_is_a_stall_when_nothing_came_of_the_model_meanwhile() -> None:
    """An answer to somebody else says that the runner lives: the request waits in Ollama's queue."""
    waits = (Wait("a", request(), 10.0), Wait("a", request(), 20.0))
    expected = {MODEL: 60.0}
    assert stalled(waits, {}, expected, 69.0) == {}
    assert stalled(waits, {}, expected, 100.0) == {MODEL: 90.0}
    assert stalled(waits, {MODEL: 15.0}, expected, 100.0) == {MODEL: 80.0}
    assert stalled(waits, {MODEL: 25.0}, expected, 100.0) == {}


def test_the_words_tell_a_frozen_runner_from_loads_that_stand_still() -> None:
    """The second is when the model is not in memory, and something is that never goes; the remedy is named."""
    assert "may be frozen" in stall_words(MODEL, 90.0, make_facts("a", held=(loaded("llama3.1:8b"),)))
    assert "may be frozen" in stall_words(MODEL, 90.0, make_facts("a"))
    words = stall_words(MODEL, 90.0, make_facts("a", held=(loaded("qwen3:8b"),)))
    assert "loads stand still" in words
    assert "`ollama stop qwen3:8b`" in words


def progress(pieces: int, name: str = "llama3.1:8b") -> Progress:
    """An answer of which so many pieces have come."""
    return Progress("a", canonical_name(name), "x", pieces)


def test_an_answer_that_goes_on_excuses_who_waits_for_its_runner() -> None:
    """A long answer is no frozen runner; one of which nothing more has come is no excuse."""
    state = FleetState(make_config({"a": {}}))
    state.update("a", lambda facts: replace(facts, up=True), 0.0)
    state.suspect("a", [progress(10)], 900.0)
    state.suspect("a", [Wait("a", request(), 0.0), progress(20)], 1000.0)
    assert state.health.models.until("a", MODEL) is None
    state.suspect("a", [Wait("a", request(), 1001.0), progress(20)], 2000.0)
    assert state.health.models.until("a", MODEL) is not None


def test_what_comes_of_a_sibling_comes_of_the_same_runner() -> None:
    """Names on one file of weights wait for each other."""
    weights = ModelFacts(weights="f" * 64)
    facts = make_facts("a", tuple(installed(name, facts=weights) for name in ("llama3.1:8b", "mine")))
    state = FleetState(make_config({"a": {}}))
    state.update("a", lambda _: facts, 0.0)
    state.suspect("a", [progress(1, "mine")], 900.0)
    state.suspect("a", [Wait("a", request(), 0.0), progress(2, "mine")], 1000.0)
    assert state.health.models.until("a", MODEL) is None


def suspected(*, load_probe: bool = True, **asked: Any) -> tuple[FleetState, list[Wait]]:
    """A server on which a request has waited for a model since second 0, suspected at second 1000."""
    config = make_config({"a": {}}, load_probe=load_probe)
    state = FleetState(config)
    state.update("a", lambda facts: replace(facts, up=True), 0.0)
    waits = [Wait("a", replace_request(request(), **asked), 0.0)]
    state.suspect("a", waits, 1000.0)
    return state, waits


def test_a_load_probe_asks_for_one_token_as_the_request_wants_its_model_loaded() -> None:
    """Nothing is loaded anew for it; an embedder is asked for a vector."""
    options = frozenset({("num_gpu", 20), ("shift", False)})
    state, _ = suspected(num_ctx=8192, load_options=options)
    probe = state.load_probe_due("a", 1000.0)
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
    embedder = suspected(needs=frozenset({"embedding"}))[0].load_probe_due("a", 1000.0)
    assert embedder is not None
    assert (embedder.path, json.loads(embedder.body)["input"]) == ("/api/embed", "hi")


def test_no_load_probe_is_sent_unless_the_operator_wants_it_nor_two_at_once() -> None:
    """Off by default; one for each model that is under suspicion."""
    assert suspected(load_probe=False)[0].load_probe_due("a", 1000.0) is None
    state, _ = suspected()
    assert state.load_probe_due("a", 1000.0) is not None
    assert state.load_probe_due("a", 1001.0) is None
    assert state.load_probe_due("b", 1001.0) is None


def test_an_answered_load_probe_ends_the_suspicion() -> None:
    """The model is asked for again, and the request that still waits is no reason against it."""
    state, waits = suspected()
    probe = state.load_probe_due("a", 1000.0)
    assert probe is not None
    assert state.health.models.until("a", MODEL) is not None
    state.load_probe_ended(probe, None, 1010.0)
    state.suspect("a", waits, 1011.0)
    assert state.health.models.until("a", MODEL) is None
    assert state.load_probe_due("a", 1011.0) is None


def test_a_load_probe_without_an_answer_keeps_the_model_out_and_comes_again() -> None:
    """Before a user's request would be tried; the words keep the remedy."""
    state, _ = suspected()
    probe = state.load_probe_due("a", 1000.0)
    assert probe is not None
    before = state.health.models.until("a", MODEL)
    state.load_probe_ended(probe, "no answer within 30 s", 1030.0)
    after = state.health.models.until("a", MODEL)
    assert before is not None
    assert after is not None
    assert after > before
    words = state.health.models.to_json("a", 1031.0)[MODEL]["error"]
    assert "may be frozen" in words
    assert "load probe: no answer" in words
    assert state.load_probe_due("a", 1031.0) is None
    assert state.load_probe_due("a", after - 1.0) is not None
    assert not state.health.models.take("a", MODEL, after + 1.0)  # a user's request is no trial meanwhile
