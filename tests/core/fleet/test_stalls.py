"""Runners that stand still: told by answers that do not begin, long after they should have."""

from __future__ import annotations

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.fleet.snapshot import ModelSpeed
from ollama_router_core.fleet.stalls import Wait, patience, stall_words, stalled
from support.fleets import loaded, make_facts

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
