"""Who of a group does what one has to do."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.coordination.duties import turn_of


@given(st.text(), st.integers(1, 30))
def test_every_member_has_another_turn(subject: str, members: int) -> None:
    """So one is first, and one is next if nothing is heard of it."""
    assert sorted(turn_of(subject, members, rank) for rank in range(members)) == list(range(members))


def test_subjects_are_spread_over_the_members() -> None:
    """Of 1,000 servers none of five has more than a third."""
    first = Counter(next(rank for rank in range(5) if not turn_of(f"server{n}", 5, rank)) for n in range(1000))
    assert max(first.values()) < 333


def test_a_member_that_knows_of_nobody_is_first() -> None:
    """Also where the group is said to be empty."""
    assert turn_of("a", 1, 0) == turn_of("a", 0, 0) == 0
