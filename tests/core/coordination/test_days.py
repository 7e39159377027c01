"""Tokens of a day and its month: the sums of what was counted, in whatever order it comes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.access.limits import first_day_of_month
from ollama_router_core.coordination.days import DayBudget, DayUse

DAYS = st.integers(20_420, 20_490)
"""Three months."""
CHANGES = st.lists(st.tuples(DAYS, st.integers(-50, 50)), max_size=12)


@given(begun=st.dictionaries(DAYS, st.integers(0, 100)), changes=CHANGES, asked=DAYS)
def test_the_sums_are_those_of_all_that_was_counted_of_the_day_and_its_month(
    begun: dict[int, int], changes: list[tuple[int, int]], asked: int
) -> None:
    """Also over midnight, and of requests that end days after they began; an earlier day changes to no earlier one."""
    first = min(begun, default=asked)
    use, days = DayUse.of(begun, first), Counter({day: count for day, count in begun.items() if day <= first})
    for day, tokens in changes:
        use = use.plus(day, tokens)
        days[day] += tokens
    use = use.on(asked)
    assert use.day == max(first, asked, *(day for day, _ in changes), first)
    month = [day for day in days if first_day_of_month(use.day) <= day < use.day]
    assert use == DayUse(use.day, days[use.day], sum(days[day] for day in month))
    assert sum(use.by_day.values()) == use.today + use.earlier
    assert use.by_day[use.day] == use.today


def test_a_budget_has_room_while_anything_is_left_of_each_of_its_limits() -> None:
    """Of a limit that is not there, always."""
    use = DayUse(20_440, 10, 90)
    rooms = {limits: DayBudget(*limits, use).has_room(use) for limits in [(11, 101), (10, 101), (11, 100), (None, 101)]}
    assert rooms == {(11, 101): True, (10, 101): False, (11, 100): False, (None, 101): True}
    assert DayBudget(11, None, use).has_room(use)
