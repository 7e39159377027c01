"""What a member of a group on several machines knows of the others between two exchanges with their common store.

Moments are seconds of the member's own clock: who exchanges with the store translates them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from msgspec import Struct

from ollama_router_core.coordination.interface import Admissions, Scope
from ollama_router_core.coordination.limits import MINUTE_SECONDS, share_of

__all__ = ["Replica", "Seen"]


class Seen(Struct, frozen=True, kw_only=True):
    """What the store knew of the group: members, what the others hold, since when they wait, drains by server."""

    members: int
    elsewhere: Mapping[Scope, Mapping[str, int]]
    waiting: Mapping[str, float]
    drains: Mapping[str, bool]


class Replica:
    """One member's own counts, exact, and the others' as of the last exchange.

    While the store cannot be asked (`away`) the member goes by its share of every limit: of a limit that it has asked
    for before, the others are taken to hold the rest.

    Attributes:
        name: the member's, by which equals are put in order.
        own: what this member holds.
        members: how many there were, itself included, when the store last answered.
        away: whether the store cannot be asked.
        since: when the request arrived that waits longest here.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.own: dict[Scope, Counter[str]] = {scope: Counter() for scope in Scope}
        self.members = 1
        self.away = True
        self.since: float | None = None
        self._elsewhere: dict[Scope, dict[str, int]] = {scope: {} for scope in Scope}
        self._limits: dict[tuple[Scope, str], int] = {}
        self._waiting: Mapping[str, float] = {}
        self._drains: dict[str, bool] = {}
        self._admitted: dict[str, Counter[int]] = {}
        self._admitted_elsewhere: dict[str, Mapping[int, int]] = {}

    # --- counts -----------------------------------------------------------------------------------------------------

    def take(self, scope: Scope, name: str) -> None:
        """Count what this member holds."""
        self.own[scope][name] += 1

    def give_back(self, scope: Scope, name: str) -> bool:
        """End what was taken; False where nothing was."""
        if self.own[scope][name] < 1:
            return False
        self.own[scope][name] -= 1
        if not self.own[scope][name]:
            del self.own[scope][name]
        return True

    def elsewhere(self, scope: Scope, name: str) -> int:
        """Return what the others hold, as far as is known."""
        if not self.away:
            return self._elsewhere[scope].get(name, 0)
        limit = self._limits.get((scope, name))
        return 0 if limit is None else limit - share_of(limit, self.members)

    def all_elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return the same of many names, without those of which nothing is held."""
        if not self.away and not self._elsewhere[scope]:
            return {}
        return {name: count for name in names if (count := self.elsewhere(scope, name))}

    def asked(self, scope: Scope, name: str, limit: int) -> None:
        """Remember a limit: while the store is away, this member keeps to its share."""
        self._limits[scope, name] = limit

    def may_take_alone(self, scope: Scope, name: str, limit: int) -> bool:
        """Say whether this member holds less than its share of a limit."""
        return self.own[scope][name] < share_of(limit, self.members)

    def answered(self, scope: Scope, name: str, *, elsewhere: int, full: int | None = None) -> None:
        """Note what the others hold; of a limit that is reached, what this member does not hold is theirs."""
        known = elsewhere if full is None else max(elsewhere, full - self.own[scope][name])
        self._elsewhere[scope][name] = known

    # --- requests in a minute ---------------------------------------------------------------------------------------

    def admitted(self, user: str, second: int) -> None:
        """Count a request of a user in a second of the store's clock."""
        seconds = self._admitted.setdefault(user, Counter())
        seconds[second] += 1
        for old in [one for one in seconds if one < second - MINUTE_SECONDS]:
            del seconds[old]

    def own_admitted(self, user: str, second: int) -> int:
        """Return how many requests of a user this member admitted in the minute before a second."""
        return sum(count for one, count in self._admitted.get(user, {}).items() if one >= second - MINUTE_SECONDS)

    def admissions_of_all(self, user: str, seconds: Mapping[int, int]) -> None:
        """Note what all members admitted; `seconds` counts by seconds of the store's clock."""
        own = self._admitted.get(user, Counter())
        self._admitted_elsewhere[user] = {
            second: count - own[second] for second, count in seconds.items() if count > own[second]
        }

    def admissions(self, user: str, now: float, offset: float) -> list[Admissions]:
        """Return what the others admitted in the last minute; `offset` is the store's clock less this member's."""
        oldest = int(now + offset) - MINUTE_SECONDS
        found = sorted(self._admitted_elsewhere.get(user, {}).items())
        return [
            Admissions(min(now, second + 1.0 - offset), count) for second, count in found if second >= oldest and count
        ]

    # --- order and drains -------------------------------------------------------------------------------------------

    def waits_longest(self) -> bool:
        """Say whether the request that waits longest here waits longest in the group."""
        if self.since is None or self.away:
            return self.since is not None
        own = self._waiting.get(self.name)  # as the others see it: two clocks would let two members say so
        others = ((since, name) for name, since in self._waiting.items() if name != self.name)
        return own is not None and all((own, self.name) < other for other in others)

    def drain(self, server: str, *, on: bool) -> None:
        """Note the last word about a server."""
        self._drains[server] = on

    def drained(self, server: str) -> bool | None:
        """Return the last word about a server; None when there was none."""
        return self._drains.get(server)

    # --- the store --------------------------------------------------------------------------------------------------

    def saw(self, seen: Seen) -> None:
        """Take over what the store knows."""
        self.members = max(1, seen.members)
        self._elsewhere = {scope: dict(seen.elsewhere.get(scope, {})) for scope in Scope}
        self._waiting = seen.waiting
        self._drains = dict(seen.drains)
