"""Of many refusals a few are written, and every other one is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.refusal_quota import OTHERS, RefusalQuota


def test_the_first_of_an_origin_are_written() -> None:
    """Five in ten seconds; then five of the next ten seconds, and what was left out is told once."""
    quota = RefusalQuota(seconds=10.0, of_one=5)
    assert [quota.take("a", 0.0) for _ in range(8)] == [True] * 5 + [False] * 3
    assert quota.left_out(9.9) == {}
    assert quota.pending
    assert quota.left_out(10.0) == {"a": 3}
    assert quota.left_out(10.0) == {}
    assert not quota.pending
    assert quota.take("a", 10.0)


def test_one_origin_cannot_silence_another() -> None:
    """A flood from one address leaves the lines of the next as they are."""
    quota = RefusalQuota(of_one=5)
    for _ in range(10_000):
        quota.take("flood", 0.0)
    assert quota.take("other", 0.0)


def test_what_is_remembered_is_bounded() -> None:
    """Beyond the number of origins they are counted together."""
    quota = RefusalQuota(of_one=1, of_all=1_000_000, origins=10)
    for number in range(1_000):
        quota.take(str(number), 0.0)
    assert quota.left_out(10.0) == {OTHERS: 989}


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 5)), max_size=200))
def test_nothing_is_lost(refusals: list[tuple[str, float]]) -> None:
    """Law: each refusal is written or counted, and a period has at most `of_all` written."""
    quota = RefusalQuota(seconds=10.0, of_one=3, of_all=8, origins=4)
    now, written, counted = 0.0, 0, 0
    for origin, pause in refusals:
        now += pause
        counted += sum(quota.left_out(now).values())
        written += quota.take(origin, now)
    counted += sum(quota.left_out(now + 10.0).values())
    assert written + counted == len(refusals)
    assert written <= 8 * (now // 10.0 + 1)
