"""How many requests a loaded model serves at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.slots import LearnedSlots, SlotBook, configured_slots, parallel_slots, slots_for
from ollama_router_core.fleet.snapshot import InstalledModel, ModelFacts

MS = 1_000_000
CHAT = InstalledModel(
    name=canonical_name("llama3.1:8b"),
    spelling="llama3.1:8b",
    size=5,
    digest="d",
    family="llama",
    format="gguf",
    capabilities=frozenset({"completion"}),
)
TOLD, UNTOLD = Server(host="a", num_parallel=4), Server(host="a")
ALONE = LearnedSlots().observe(2 * MS, 4000 * MS, 0, 0.0)


@pytest.mark.parametrize(
    "one",
    [
        replace(CHAT, capabilities=frozenset({"embedding"})),
        replace(CHAT, family="qwen35moe"),
        replace(CHAT, facts=ModelFacts(architecture="nemotron_h")),
        replace(CHAT, format="safetensors"),
    ],
)
def test_some_models_have_one_slot_whatever_the_server_was_told(one: InstalledModel) -> None:
    """Embedders, some families, and what the MLX runner runs."""
    assert configured_slots(one, TOLD) == 1
    assert slots_for(one, TOLD, 8) == 1


def test_what_was_told_holds_else_what_was_learned_else_one() -> None:
    """Ollama's own default is one."""
    assert (configured_slots(CHAT, TOLD), configured_slots(CHAT, UNTOLD), configured_slots(None, TOLD)) == (4, None, 4)
    assert (slots_for(CHAT, TOLD, 2), slots_for(CHAT, UNTOLD, 2), slots_for(CHAT, UNTOLD)) == (2, 2, 1)
    assert (parallel_slots(None, None), parallel_slots(None, UNTOLD), parallel_slots(None, TOLD)) == (1, 1, 4)


def test_configured_slots_hold_until_waits_show_fewer() -> None:
    """A server that never had to serve two at once still has the slots that it was said to have, and their prompts."""
    book = SlotBook()
    assert (book.of("a", None), book.of("a", 4)) == (1, 4)
    book.observe("a", 2 * MS, 4000 * MS, 0, 0.0, configured=True)
    assert (book.of("a", None), book.of("a", 4)) == (1, 4)
    for _ in range(8):
        book.observe("a", 1500 * MS, 4000 * MS, 1, 1.0, configured=True)
    assert (book.of("a", None), book.of("a", 4)) == (1, 1)


@given(slots=st.integers(1, 30), burst=st.integers(3, 40))
def test_who_had_to_wait_tells_the_slots(slots: int, burst: int) -> None:
    """Of a burst those that find a free slot begin at once, the others wait: one burst tells nearly, two exactly."""
    learned, told = ALONE, []
    for _ in range(2):
        for ahead in range(burst if not told or told[-1] is None else min(burst, told[-1])):
            learned = learned.observe(1500 * MS if ahead >= slots else 3 * MS, 4000 * MS, ahead, 1.0)
        told.append(learned.slots)
    if burst > slots + 1:
        assert told == [slots + 1, slots]


def test_nothing_is_learned_before_one_was_seen_alone() -> None:
    """A server's durations may leave something unexplained each time."""
    learned = LearnedSlots()
    for _ in range(5):
        learned = learned.observe(900 * MS, 4000 * MS, 1, 0.0)
    assert learned.slots is None
    learned = learned.observe(900 * MS, 4000 * MS, 0, 0.0)
    for _ in range(5):
        learned = learned.observe(950 * MS, 4000 * MS, 1, 0.0)
    assert learned.slots is None


def test_a_wait_now_and_then_is_somebody_elses_request() -> None:
    """It takes two more waits than starts at once."""
    learned = ALONE
    for queued in (2, 800, 2, 2, 700, 2):
        learned = learned.observe(queued * MS, 4000 * MS, 1, 0.0)
    assert learned.slots is None


def test_one_more_is_tried_after_ten_minutes() -> None:
    """One that waits brings the old number back; where none does, the server has got more slots.

    With one slot nothing but such a trial ever finds a request before it.
    """
    learned = ALONE
    for _ in range(2):
        learned = learned.observe(800 * MS, 4000 * MS, 1, 0.0)
    assert learned.slots == 1
    assert learned.observe(2 * MS, 4000 * MS, 0, 599.0).slots == 1
    assert learned.observe(2 * MS, 4000 * MS, 0, 601.0).slots == 2
    tried = learned.observe(200 * MS, 4000 * MS, 1, 601.0)
    assert tried.slots == 2
    assert tried.observe(800 * MS, 4000 * MS, 1, 602.0).slots == 1
    grown = tried
    for _ in range(3):
        grown = grown.observe(2 * MS, 4000 * MS, 1, 602.0)
    assert grown.slots == 2


@given(slots=st.integers(1, 12), ahead=st.lists(st.integers(0, 11), max_size=80))
def test_no_more_slots_are_proven_than_there_are(slots: int, ahead: list[int]) -> None:
    """Whatever overlaps: a request beyond the slots never begins at once, and none is sent further than one beyond."""
    learned = ALONE
    for overlapping in ahead:
        before = min(overlapping, learned.slots or (learned.proven or 1))
        learned = learned.observe(1500 * MS if before >= slots else 3 * MS, 4000 * MS, before, 1.0)
        assert learned.proven is not None
        assert learned.proven <= slots


@given(slots=st.integers(1, 12))
def test_slots_are_proven_one_by_one(slots: int) -> None:
    """Where one more than is proven is sent each time, three requests a slot tell them all."""
    learned = ALONE
    for _ in range(3 * slots):
        before = learned.slots or learned.proven or 1
        learned = learned.observe(1500 * MS if before >= slots else 3 * MS, 4000 * MS, before, 1.0)
    assert (learned.proven, learned.slots) == (slots, slots)


def test_nothing_is_proven_before_one_was_seen_alone() -> None:
    """Then no more are sent either, as their waits would tell nothing."""
    assert LearnedSlots().proven is None
    assert LearnedSlots().observe(2 * MS, 4000 * MS, 1, 0.0).proven is None
    assert ALONE.proven == 1


def test_a_server_that_has_fewer_slots_than_it_had_is_found_out() -> None:
    """A few waits where there was none before are somebody else's requests, waits without end are not."""
    learned = ALONE
    for _ in range(4):
        learned = learned.observe(2 * MS, 4000 * MS, 1, 0.0)
    for _ in range(2):
        learned = learned.observe(800 * MS, 4000 * MS, 1, 0.0)
    assert learned.proven == 2
    for _ in range(4):
        learned = learned.observe(800 * MS, 4000 * MS, 1, 0.0)
    assert (learned.proven, learned.slots) == (1, 1)


@given(seen=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), st.floats(0, 2000)), max_size=60))
def test_votes_stay_within_bounds_and_slots_within_32(seen: list[tuple[int, int, float]]) -> None:
    """Whatever servers say."""
    learned = LearnedSlots()
    for queued, ahead, now in seen:
        learned = learned.observe(queued * MS, 3000 * MS, ahead, now)
    assert len(learned.votes) == 32
    assert all(-4 <= vote <= 4 for vote in learned.votes)
    assert learned.slots is None or 1 <= learned.slots <= 32
