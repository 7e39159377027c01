"""What our own requests show about a server."""

from __future__ import annotations

import json

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.fleet.observations import observe_load_started
from ollama_router_core.fleet.runners import load_of
from ollama_router_core.fleet.snapshot import InstalledModel, ServerFacts
from ollama_router_core.fleet.traffic import inferred_model, observe_answered, sample_of, shows_nothing_new
from ollama_router_core.responses.usage import Usage

MODEL = canonical_name("m")
FACTS = ServerFacts(name="a", installed={MODEL: InstalledModel(name=MODEL, spelling="m", size=1, digest="d")})


def _request(path: str = "/api/chat", **body: object) -> ParsedRequest:
    return parse_request(match_endpoint("POST", path), json.dumps({"model": "m", "messages": [1], **body}).encode())


def test_a_load_begins_with_a_request_and_ends_with_its_answer() -> None:
    """Between the two the model is loading, afterwards it is in memory with the context that was asked for."""
    request = _request(options={"num_ctx": 8192})
    sent = observe_load_started(FACTS, MODEL, now=1.0, load=load_of(request.route))
    assert set(sent.loading) == {MODEL}
    answered = observe_answered(sent, request, 200, now=2.0)
    assert not answered.loading
    assert answered.loaded[MODEL].context_length == 8192


def test_unloading_frees_the_memory() -> None:
    """An empty request with `keep_alive: 0` starts no load and ends with the model gone."""
    unload = _request(messages=[], keep_alive=0)
    loaded = observe_answered(FACTS, _request(), 200, now=1.0)
    assert inferred_model(unload) is None
    assert not observe_answered(loaded, unload, 200, now=3.0).loaded


def test_reading_routes_and_failures_show_nothing() -> None:
    """`/api/show` loads no model; a 500 says nothing about what is in memory."""
    assert inferred_model(_request("/api/show")) is None
    assert observe_answered(FACTS, _request(), 500, now=1.0) is FACTS


def test_what_shows_nothing_new_changes_nothing() -> None:
    """The look that saves most answers the long way says so of none that would have changed a fact."""
    loaded = observe_answered(FACTS, _request(), 200, now=1.0)
    loading = observe_load_started(FACTS, MODEL, now=1.0)
    requests = [
        _request(),
        _request("/api/show"),
        _request(options={"num_ctx": 8192}),
        _request(messages=[], keep_alive=0),
        _request(model="other"),
    ]
    found = {
        (shows_nothing_new(facts, request, status), observe_answered(facts, request, status, now=2.0) is facts)
        for facts in (FACTS, loaded, loading)
        for request in requests
        for status in (200, 404, 500)
    }
    assert found == {(True, True), (False, True), (False, False)}
    assert shows_nothing_new(loaded, _request(), 200)


def test_only_what_was_read_of_a_prompt_tells_the_speed() -> None:
    """1000 tokens, half of them cached, in half a second: 1000 tokens a second, not 2000."""
    usage = Usage(prompt_tokens=1000, cached_tokens=500, prompt_eval_duration=500_000_000, eval_duration=1)
    for held in (False, True):
        sample = sample_of(usage, loaded=False, prompt_held=held)
        assert sample is not None
        assert (sample.prompt_tokens, sample.prompt_ns) == (500, 500_000_000)


def test_a_held_prompt_without_a_count_tells_nothing() -> None:
    """Older servers count all of it whatever they read."""
    usage = Usage(prompt_tokens=1000, prompt_eval_duration=500_000_000, eval_duration=1)
    sample = sample_of(usage, loaded=False, prompt_held=True)
    assert sample is not None
    assert sample.prompt_tokens == 0
