"""What a server's memory holds, learned from what was seen in it."""

from __future__ import annotations

from ollama_router_core.fleet.capacity import Capacity, HeldModel

GIB = 1 << 30


def held(**models):
    """Models by name and GiB, all in video memory."""
    return {name: HeldModel(round(gib * GIB), round(gib * GIB)) for name, gib in models.items()}


def test_nothing_is_too_much_until_it_was_seen():
    """Whatever the model, beside whatever: the server would say."""
    room = Capacity().room(None)
    assert room.fits(200 * GIB, 300 * GIB, 2)
    assert not room.is_known


def test_the_operator_s_limit_holds_with_ollama_s_share_of_what_is_free():
    """80 % beside others, all of it alone."""
    room = Capacity().room(24 * GIB)
    assert room.fits(24 * GIB, 0, 0)
    assert room.fits(11 * GIB, 10 * GIB, 1)
    assert not room.fits(12 * GIB, 10 * GIB, 1)


def test_an_eviction_shows_that_two_were_too_much():
    """12 of 24 GiB beside 10: not within 80 % of what is free; 24 is the largest size of memory that explains it."""
    seen = Capacity().observe(held(a=10), held(b=12), 1.0)
    assert not seen.room(None).fits(12 * GIB, 10 * GIB, 1)
    assert seen.room(27 * GIB).limit == 24 * GIB, "an operator who says more is wrong"
    assert seen.room(16 * GIB).limit == 16 * GIB


def test_between_what_was_held_and_what_was_too_much_memory_is_a_guess():
    """The least size that holds what was held, until both bounds mean the same size."""
    seen = Capacity().observe(held(a=10), held(b=12), 1.0)
    assert (seen.room(None).limit, seen.room(None).measured) == (12 * GIB, False)
    more = seen.observe(held(b=12), held(b=12, c=9), 2.0)
    assert (more.room(None).limit, more.room(None).measured) == (24 * GIB, True)


def test_who_goes_for_one_more_is_known_where_nothing_is_a_guess():
    """Memory and the number of models: a fourth may evict one though there is room."""
    told = Capacity().room(24 * GIB)
    assert told.surely_holds_one_more(2)
    assert not told.surely_holds_one_more(3)
    assert not Capacity().room(None).surely_holds_one_more(1)


def test_what_surely_does_not_fit():
    """With as much memory as there may be."""
    room = Capacity().observe(held(a=45), held(b=20), 1.0).room(None)
    assert not room.surely_lacks(40 * GIB, 10 * GIB)
    assert not room.fits(40 * GIB, 10 * GIB, 1), "though that is believed"
    assert room.surely_lacks(40 * GIB, 20 * GIB)


def test_one_that_expired_was_not_evicted():
    """Its time was up; that says nothing about memory."""
    before = {"a": HeldModel(10 * GIB, 10 * GIB, expires_at=0.5)}
    assert not Capacity().observe(before, held(b=12), 1.0).room(None).is_known


def test_more_than_three_models_were_too_many_not_too_much():
    """Ollama holds three for each GPU; their number is believed to be the reason."""
    seen = Capacity().observe(held(a=1, b=1, c=1), held(b=1, c=1, d=1), 1.0)
    assert not seen.room(None).is_known
    assert seen.room(None).models == 3
    assert seen.room(None).counted


def test_what_is_seen_together_disproves_what_was_believed():
    """Memory that something else had taken is there again; so are more GPUs."""
    seen = Capacity().observe(held(a=10), held(b=12), 1.0).observe(held(b=12), held(b=12, c=20), 2.0)
    assert not seen.room(None).is_known
    assert Capacity().observe({}, held(a=1, b=1, c=1, d=1, e=1), 1.0).room(None).models == 5


def test_what_is_partly_in_main_memory_is_too_large():
    """`size_vram` below `size`: the server has less than that."""
    seen = Capacity().observe({}, {"a": HeldModel(20 * GIB, 15 * GIB)}, 1.0)
    assert 15 * GIB <= seen.room(None).limit < 20 * GIB


def test_a_belief_ends_after_an_hour():
    """Then more is tried again."""
    seen = Capacity().observe(held(a=10), held(b=12), 1.0)
    assert not seen.observe(held(b=12), held(b=12), 3700.0).room(None).is_known


def test_three_models_for_each_gpu_unless_another_number_was_told() -> None:
    """Ollama's OLLAMA_MAX_LOADED_MODELS, counted over the whole server."""
    small, one, two = 2**30, Capacity().room(96 * GIB), Capacity().room(96 * GIB, gpus=2)
    assert [one.fits(small, 3 * small, count) for count in (2, 3)] == [True, False]
    assert [two.fits(small, 3 * small, count) for count in (5, 6)] == [True, False]
    told = Capacity().room(96 * GIB, max_models=1, gpus=2)
    assert told.counted
    assert [told.fits(small, 0, count) for count in (0, 1)] == [True, False]
