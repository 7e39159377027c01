"""What has to be refused in any order of service."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import combinations, permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROUTING = Path(__file__).parents[2] / "benchmarks" / "routing"
Wish = tuple[float, float]
"""When it comes and how long it takes."""

WISHES = st.lists(st.tuples(st.integers(0, 12).map(float), st.integers(1, 8).map(float)), max_size=5).map(sorted)


@pytest.fixture(autouse=True, scope="module")
def _path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROUTING))
        yield
    sys.modules.pop("bounds", None)


def bound(wishes: list[Wish], servers: int, patience: float) -> int:
    """What the benchmark says."""
    from bounds import Wish, least_refused

    return least_refused([Wish(*one) for one in wishes], servers, patience)


def served_in(order: tuple[Wish, ...], servers: int, patience: float) -> bool:
    """Whether all of them begin in time, each on the server that is free first."""
    free = [0.0] * servers
    for at, work in order:
        begin = max(at, min(free))
        if begin > at + patience:
            return False
        free[free.index(min(free))] = begin + work
    return True


def refused_at_best(wishes: list[Wish], servers: int, patience: float) -> int:
    """The least, over all orders of all choices."""
    for count in range(len(wishes)):
        for kept in combinations(wishes, len(wishes) - count):
            if any(served_in(order, servers, patience) for order in permutations(kept)):
                return count
    return len(wishes)


@pytest.mark.parametrize(
    ("wishes", "servers", "refused"),
    [
        ([], 1, 0),
        ([(0.0, 100.0)], 1, 0),
        ([(0.0, 100.0)] * 3, 1, 2),
        ([(0.0, 100.0)] * 3, 2, 1),
        ([(0.0, 4.0)] * 4, 1, 0),
        ([(0.0, 100.0)] * 2 + [(500.0, 100.0)] * 2, 1, 2),
    ],
)
def test_what_does_not_fit_is_refused(wishes: list[Wish], servers: int, refused: int) -> None:
    """All may wait for twelve seconds; stretches that are full one after the other add up."""
    assert bound(wishes, servers, 12.0) == refused


@given(wishes=WISHES, servers=st.integers(1, 2), patience=st.integers(0, 10))
def test_no_order_refuses_fewer(wishes: list[Wish], servers: int, patience: int) -> None:
    """It is a bound from below: a few requests are tried in every order."""
    assert bound(wishes, servers, float(patience)) <= refused_at_best(wishes, servers, float(patience))
