"""A user's tokens of a day and a month, counted across processes.

The database is authoritative, but lags behind changes. The shared count therefore starts from the first process's view
of the database, and is valid while changes continue. After `DAYS_KEPT` seconds without a change the database is up to
date, and the next process restarts from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ollama_router_core.access.limits import first_day_of_month

__all__ = ["DAYS_KEPT", "DayBudget", "DayCounts", "DayUse"]

DAYS_KEPT: Final = 10.0
"""Seconds after the last change, longer than until the database has it and every process has read it."""


class DayUse(NamedTuple):
    """Tokens of a user on `day`, in days since 1970-01-01 (UTC), and on the earlier days of its month."""

    day: int
    today: int
    earlier: int

    @classmethod
    def of(cls, tokens: Mapping[int, int], day: int) -> DayUse:
        """Build from tokens by day."""
        earlier = sum(count for one, count in tokens.items() if first_day_of_month(day) <= one < day)
        return cls(day, tokens.get(day, 0), earlier)

    def on(self, day: int) -> DayUse:
        """Return the use as of `day`, or of this one if it is later."""
        if day <= self.day:
            return self
        same_month = first_day_of_month(day) <= self.day
        return DayUse(day, 0, self.earlier + self.today if same_month else 0)

    def plus(self, day: int, tokens: int) -> DayUse:
        """Return the use with tokens of a day added (or subtracted); those of a past month are ignored."""
        found = self.on(day)
        if day == found.day:
            return found._replace(today=found.today + tokens)
        if day >= first_day_of_month(found.day):
            return found._replace(earlier=found.earlier + tokens)
        return found

    @property
    def by_day(self) -> Mapping[int, int]:
        """Tokens by day, with all earlier days' tokens on one of them."""
        first = first_day_of_month(self.day)
        return {self.day: self.today} if first == self.day else {first: self.earlier, self.day: self.today}


class DayBudget(NamedTuple):
    """A user's limits of a day and its month, and the use known to this process."""

    per_day: int | None
    per_month: int | None
    known: DayUse

    def has_room(self, use: DayUse) -> bool:
        """Return whether any tokens are left."""
        return (self.per_day is None or use.today < self.per_day) and (
            self.per_month is None or use.today + use.earlier < self.per_month
        )


class DayCounts:
    """The shared use, by user. Mutable; `now` is in seconds of a clock shared by all processes."""

    __slots__ = ("_counted",)

    def __init__(self) -> None:
        self._counted: dict[str, tuple[DayUse, float]] = {}

    def use(self, user: str, now: float, day: int, tokens: int, known: DayUse) -> None:
        """Count tokens of a day; `known` is the caller's earlier view."""
        self._counted[user] = (self.of(user, now, known).plus(day, tokens), now)

    def saw(self, user: str, now: float, use: DayUse) -> None:
        """Record another process's count."""
        self._counted[user] = (use, now)

    def of(self, user: str, now: float, known: DayUse) -> DayUse:
        """Return the count as of the day of `known`; `known` itself if there was no recent change."""
        counted, at = self._counted.get(user, (known, now))
        return (counted if now - at < DAYS_KEPT else known).on(known.day)
