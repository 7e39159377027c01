"""Numbers as people read them."""

from __future__ import annotations

import pytest

from ollama_router_server.admin.views.active import turn
from ollama_router_server.console.wording import duration, plain


@pytest.mark.parametrize(
    ("starts_in", "text"),
    [
        (None, "\u2013"),
        ((8.2, 13.8), "8 to 14 s"),
        ((10.0, 10.0), "about 10 s"),
        ((-3.0, 6.0), "within 6 s"),
        ((-3.0, 1.2), "any moment"),
        ((-9.0, -2.0), "any moment"),
    ],
)
def test_a_turn_is_a_range_where_its_spread_is_known(starts_in: tuple[float, float] | None, text: str) -> None:
    """Otherwise about a time; and what is overdue comes at any moment."""
    assert turn(starts_in) == text


def test_what_was_changed_is_told_in_words() -> None:
    """Lists and objects without the marks of a program."""
    grants = {"models": ["qwen*", "llama3.2*"], "requests_per_minute": 60, "batch": False, "max_wait": None}
    assert plain(grants) == "models qwen*, llama3.2*; requests per minute 60; batch no; max wait none"
    assert plain({}) == plain([]) == "none"


@pytest.mark.parametrize(
    ("ms", "text"),
    [(None, "\u2013"), (870.4, "870 ms"), (9_960.0, "10.0 s"), (3_599_900.0, "1 h 0 min"), (6_009_500.0, "1 h 40 min")],
)
def test_a_duration_has_the_unit_that_suits_it(ms: float | None, text: str) -> None:
    """And never sixty of a smaller one."""
    assert duration(ms) == text
