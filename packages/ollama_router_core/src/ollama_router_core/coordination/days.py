"""Tokens that a user has used of a day and a month, as processes count them in common.

The database has the truth, and knows it a moment after a change. So what is counted in common begins with what the
first one to count knows of the database, and holds as long as there are changes. Where nothing has changed for
`DAYS_KEPT` seconds the database has everything, and the next one to count begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ollama_router_core.access.limits import first_day_of_month

__all__ = ["DAYS_KEPT", "DayBudget", "DayCounts", "DayUse"]

DAYS_KEPT: Final = 10.0
"""Seconds after the last change: longer than it takes until the database has it, and every process has read that."""


class DayUse(NamedTuple):
    """Tokens of a user: of a day, in days since 1970-01-01 (UTC), and of the days of its month before it."""

    day: int
    today: int
    earlier: int

    @classmethod
    def of(cls, tokens: Mapping[int, int], day: int) -> DayUse:
        """Make it of tokens by day."""
        earlier = sum(count for one, count in tokens.items() if first_day_of_month(day) <= one < day)
        return cls(day, tokens.get(day, 0), earlier)

    def on(self, day: int) -> DayUse:
        """Return what was used as of this day, or a later one."""
        if day <= self.day:
            return self
        same_month = first_day_of_month(day) <= self.day
        return DayUse(day, 0, self.earlier + self.today if same_month else 0)

    def plus(self, day: int, tokens: int) -> DayUse:
        """Return it with more tokens of a day, or with less; those of a past month are left out."""
        found = self.on(day)
        if day == found.day:
            return found._replace(today=found.today + tokens)
        if day >= first_day_of_month(found.day):
            return found._replace(earlier=found.earlier + tokens)
        return found

    @property
    def by_day(self) -> Mapping[int, int]:
        """Tokens by day, those of the days before on one of them."""
        first = first_day_of_month(self.day)
        return {self.day: self.today} if first == self.day else {first: self.earlier, self.day: self.today}


class DayBudget(NamedTuple):
    """A user's limits of a day and of its month, and what the process that asks knows of their use."""

    per_day: int | None
    per_month: int | None
    known: DayUse

    def has_room(self, use: DayUse) -> bool:
        """Say whether anything is left."""
        return (self.per_day is None or use.today < self.per_day) and (
            self.per_month is None or use.today + use.earlier < self.per_month
        )


class DayCounts:
    """What all have used, by user. Mutable, and without a clock: `now` is seconds of one that all have in common."""

    __slots__ = ("_counted",)

    def __init__(self) -> None:
        self._counted: dict[str, tuple[DayUse, float]] = {}

    def use(self, user: str, now: float, day: int, tokens: int, known: DayUse) -> None:
        """Count tokens of a day; `known` is what was known before."""
        self._counted[user] = (self.of(user, now, known).plus(day, tokens), now)

    def saw(self, user: str, now: float, use: DayUse) -> None:
        """Note what somebody else has counted."""
        self._counted[user] = (use, now)

    def of(self, user: str, now: float, known: DayUse) -> DayUse:
        """Return what is counted as of the day of `known`, which holds where nothing has changed lately."""
        counted, at = self._counted.get(user, (known, now))
        return (counted if now - at < DAYS_KEPT else known).on(known.day)
