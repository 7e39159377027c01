"""Laws of grants and limits."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.access.grants import Grants, combine_grants, grants_from_json, grants_to_json, may_use_model
from ollama_router_core.access.limits import Elsewhere, Meter, day_of, limit_headers, standing_of
from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.errors import LimitExceeded

NOON = 1_700_000_000.0

numbers = st.none() | st.integers(0, 2**53 - 1)
patterns = st.none() | st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), max_size=4)
grants = st.builds(
    lambda **values: grants_from_json(values),
    models=patterns,
    hosts=patterns,
    cloud=st.none() | st.booleans(),
    kinds=st.none() | st.lists(st.sampled_from([str(kind) for kind in Kind]), max_size=4),
    networks=st.none() | st.lists(st.ip_addresses().map(str), max_size=3),
    expires_at=st.none() | st.floats(0, 2**52),
    batch=st.none() | st.booleans(),
    max_wait=numbers,
    requests_per_minute=numbers,
    concurrent_requests=numbers,
    tokens_per_minute=numbers,
    tokens_per_day=numbers,
    tokens_per_month=numbers,
)
model_names = st.from_regex(r"[a-z0-9]{1,8}(\.[0-9])?(:[a-z0-9]{1,5}(-cloud)?)?", fullmatch=True) | st.text(max_size=20)


@given(grants)
def test_grants_survive_json(value: Grants) -> None:
    """What is stored is what was granted."""
    assert grants_from_json(grants_to_json(value)) == value


@given(grants, grants)
def test_a_user_s_own_word_holds_and_the_group_says_the_rest(own: Grants, group: Grants) -> None:
    """Field by field, and nothing is open that one of the two has said."""
    both = combine_grants(own, group)
    for name in Grants.__struct_fields__:
        mine, theirs = getattr(own, name), getattr(group, name)
        assert getattr(both, name) == (theirs if mine is None else mine)


@given(grants, grants, grants)
def test_combining_is_associative_with_silence_as_its_unit(one: Grants, two: Grants, three: Grants) -> None:
    """So groups in groups would mean one thing only."""
    assert combine_grants(combine_grants(one, two), three) == combine_grants(one, combine_grants(two, three))
    assert combine_grants(one, Grants()) == one == combine_grants(Grants(), one)


@given(grants, model_names)
def test_every_spelling_of_a_model_gets_one_verdict(value: Grants, name: str) -> None:
    """A model cannot be reached by writing its name otherwise."""
    allowed = may_use_model(value, name)
    assert may_use_model(value, canonical_name(name)) is allowed
    if name.isascii():
        assert may_use_model(value, name.upper()) is allowed


@given(model_names, patterns)
def test_more_patterns_never_take_a_model_away(name: str, more: list[str] | None) -> None:
    """Lists of patterns are alternatives."""
    few = Grants(models=("llama*",))
    many = grants_from_json({"models": ["llama*", *(more or ())]})
    assert not may_use_model(few, name) or may_use_model(many, name)


steps = st.lists(st.tuples(st.floats(0, 50), st.booleans()), max_size=60)


@given(steps, st.integers(0, 6), st.integers(0, 3))
def test_no_minute_and_no_moment_has_more_than_allowed(
    script: list[tuple[float, bool]], minute: int, at_once: int
) -> None:
    """Whatever the order of requests and endings."""
    meter = Meter()
    allowed = Grants(requests_per_minute=minute, concurrent_requests=at_once)
    now, admitted = 0.0, []
    for pause, ends in script:
        now += pause
        if ends and meter.in_flight:
            meter.release()
        with suppress(LimitExceeded):
            meter.admit(allowed, now=now, wall=NOON)
            admitted.append(now)
        assert sum(1 for moment in admitted if moment > now - 60.0) <= minute
        assert 0 <= meter.in_flight <= at_once


@given(steps, st.integers(1, 6))
def test_waiting_as_told_is_enough(script: list[tuple[float, bool]], minute: int) -> None:
    """`retry_after` of the request limit is neither too short nor, by more than rounding, too long."""
    meter, allowed, now = Meter(), Grants(requests_per_minute=minute), 0.0
    for pause, _ in script:
        now += pause
        try:
            meter.admit(allowed, now=now, wall=NOON)
        except LimitExceeded as refused:
            now += (refused.retry_after or 0.0) + 1e-6
            meter.admit(allowed, now=now, wall=NOON)


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), max_size=40), st.integers(0, 2_000))
def test_a_limit_of_tokens_is_passed_by_one_request_at_most(uses: list[tuple[int, int]], limit: int) -> None:
    """Tokens taken on admission and settled later never add up to more than the limit and one request's surprise."""
    meter, allowed, day = Meter(), Grants(tokens_per_day=limit), day_of(NOON)
    for estimate, true in uses:
        with suppress(LimitExceeded):
            meter.admit(allowed, now=0.0, wall=NOON)
            meter.take(day, estimate)
            meter.take(day, true - estimate)
            meter.release()
    assert meter.tokens.get(day, 0) <= limit + 300


@given(grants, st.integers(0, 50))
def test_headers_never_show_a_negative_number(value: Grants, requests: int) -> None:
    """Whatever was used before the limit was set."""
    meter = Meter()
    meter.take(day_of(NOON), requests * 1_000)
    for _ in range(requests):
        meter.recall(0.0)
    for _, text in limit_headers(standing_of(meter, value, now=1.0, wall=NOON)):
        assert not text.startswith("-")


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3)), max_size=60),
)
def test_processes_that_know_of_each_other_hold_a_limit_together(limit: int, arrivals: list[tuple[float, int]]) -> None:
    """With what the others admitted told, in no 60 seconds do all together admit more than the limit."""
    meters = [Meter() for _ in range(4)]
    allowed = Grants(requests_per_minute=limit)
    admitted: list[float] = []
    for moment, process in sorted(arrivals):
        others = [meter for number, meter in enumerate(meters) if number != process]
        known = Elsewhere(requests=tuple((one, 1) for meter in others for one in meter.recent(moment)))
        with suppress(LimitExceeded):
            meters[process].admit(allowed, now=moment, wall=NOON, elsewhere=known)
            admitted.append(moment)
    for start in admitted:
        assert sum(1 for moment in admitted if start <= moment < start + 60) <= limit
