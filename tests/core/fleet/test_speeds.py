"""Speeds: honest before anything is known, quick to learn, hard to fool."""

from __future__ import annotations

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.fleet.snapshot import ModelWeight
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight
from support.fleets import LLAMA_8B, SIZE_8B, installed

SMALL, LARGE = canonical_name("llama3.1:8b"), canonical_name("llama3.3:70b")
SMALL_WEIGHT = ModelWeight(size=4.9e9, parameters=8e9)
LARGE_WEIGHT = ModelWeight(size=42.5e9, parameters=70e9)


def sample(prefill: float = 2000.0, decode: float = 100.0, load: float = 0.0, **more) -> Sample:
    """A thousand prompt tokens and two hundred written ones at these rates."""
    return Sample(
        load_ns=round(load * 1e9),
        prompt_tokens=1000,
        prompt_ns=round(1000 / prefill * 1e9),
        output_tokens=200,
        output_ns=round(200 / decode * 1e9),
        **more,
    )


def learned(times: int, one: Sample, book: SpeedBook | None = None) -> SpeedBook:
    """A book after some samples of the small model on server a."""
    book = book or SpeedBook()
    for _ in range(times):
        book = book.observe("a", SMALL, SMALL_WEIGHT, one)
    return book


class TestPriors:
    """Before anything is learned, size decides."""

    def test_a_large_model_is_slower_in_everything(self):
        """To load, to read, to write; and nothing pretends to be measured."""
        small, large = (SpeedBook().expect("a", SMALL, weight) for weight in (SMALL_WEIGHT, LARGE_WEIGHT))
        assert small.load_seconds < large.load_seconds
        assert small.prefill_rate > large.prefill_rate
        assert small.decode_rate > large.decode_rate
        assert small.samples == 0

    def test_a_mixture_of_experts_writes_faster_than_its_size(self):
        """Each token passes through some of the weights only."""
        weight = model_weight("qwen3:30b-a3b", installed("qwen3:30b-a3b", 18_600_000_000))
        assert weight.active == pytest.approx(0.1)
        dense = ModelWeight(size=weight.size, parameters=weight.parameters)
        assert SpeedBook().expect("a", SMALL, weight).decode_rate > SpeedBook().expect("a", SMALL, dense).decode_rate

    def test_weight_from_facts_then_name_then_a_guess(self):
        """The more a server says the less is guessed."""
        assert model_weight("x", installed("x", SIZE_8B, facts=LLAMA_8B)).size == SIZE_8B
        assert model_weight("x:8b").parameters == 8e9
        assert model_weight("x").parameters == 7e9


class TestLearning:
    """Rates from final chunks."""

    def test_a_few_requests_suffice(self):
        """After five the estimates are within a tenth."""
        speed = learned(5, sample(load=3.0)).expect("a", SMALL, SMALL_WEIGHT)
        assert speed.prefill_rate == pytest.approx(2000, rel=0.1)
        assert speed.decode_rate == pytest.approx(100, rel=0.1)
        assert speed.load_seconds == pytest.approx(3.0, rel=0.1)
        assert speed.samples == 5

    def test_one_model_says_something_about_every_other_there(self):
        """A server three times as fast with one model is expected to be fast with all, elsewhere not."""
        book = learned(10, sample(decode=3 * SpeedBook().expect("a", SMALL, SMALL_WEIGHT).decode_rate))
        before, after = (one.expect("a", LARGE, LARGE_WEIGHT).decode_rate for one in (SpeedBook(), book))
        assert after == pytest.approx(3 * before, rel=0.2)
        assert book.expect("b", LARGE, LARGE_WEIGHT) == SpeedBook(
            any_answer=book.any_answer, answers=book.answers
        ).expect("b", LARGE, LARGE_WEIGHT)

    def test_it_follows_a_change(self):
        """A server that became half as fast is known to be after fifty requests."""
        book = learned(50, sample(decode=50.0), learned(50, sample(decode=100.0)))
        assert book.expect("a", SMALL, SMALL_WEIGHT).decode_rate == pytest.approx(50, rel=0.15)

    def test_tiny_samples_are_ignored(self):
        """A prompt of ten tokens and an answer of two say nothing."""
        tiny = Sample(prompt_tokens=10, prompt_ns=10, output_tokens=2, output_ns=10)
        book = learned(5, sample())
        speed = learned(5, tiny, book).expect("a", SMALL, SMALL_WEIGHT)
        assert speed.decode_rate == book.expect("a", SMALL, SMALL_WEIGHT).decode_rate
        assert speed.prefill_rate == book.expect("a", SMALL, SMALL_WEIGHT).prefill_rate

    def test_a_prefix_that_was_still_there_is_no_speed(self):
        """A thousand tokens read in next to no time were not read."""
        book = learned(20, sample(prefill=200_000.0), learned(5, sample()))
        assert book.expect("a", SMALL, SMALL_WEIGHT).prefill_rate == pytest.approx(2000, rel=0.1)

    def test_a_warm_request_says_nothing_about_loading(self):
        """Ollama reports a few milliseconds of load for a model that is there."""
        book = learned(20, sample(load=0.02))
        assert (
            book.expect("a", SMALL, SMALL_WEIGHT).load_seconds
            == SpeedBook().expect("a", SMALL, SMALL_WEIGHT).load_seconds
        )

    def test_neighbours_are_accounted_for(self):
        """A request that shared the server with three others was slower than it would have been alone."""
        alone = learned(10, sample(decode=100.0))
        crowded = learned(10, sample(decode=100.0 / 4**0.8, prefill=2000 / 4**0.8, neighbours=3.0))
        assert crowded.expect("a", SMALL, SMALL_WEIGHT).decode_rate == pytest.approx(
            alone.expect("a", SMALL, SMALL_WEIGHT).decode_rate
        )

    def test_answers_of_a_model_have_their_own_length(self):
        """A model that writes two hundred tokens each time is expected to."""
        assert learned(30, sample()).answer_tokens(SMALL) == pytest.approx(200, rel=0.05)

    def test_it_is_bounded(self):
        """A thousand models on a server are not all remembered; the latest are."""
        book = SpeedBook()
        for number in range(600):
            book = book.observe("a", canonical_name(f"m{number}"), SMALL_WEIGHT, sample())
        assert len(book.servers["a"].models) == 512
        assert "m599:latest" in book.servers["a"].models

    def test_a_new_value_each_time(self):
        """Whoever holds the old one sees no change."""
        before = learned(1, sample())
        expected = before.expect("a", SMALL, SMALL_WEIGHT)
        after = learned(5, sample(decode=10.0), before)
        assert before.expect("a", SMALL, SMALL_WEIGHT) == expected
        assert after.version("a") is not before.version("a")
