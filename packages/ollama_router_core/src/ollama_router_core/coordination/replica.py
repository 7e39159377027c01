"""What a member of a group on several machines knows of the others between two exchanges with their common store.

Moments are seconds of the member's own clock: who exchanges with the store translates them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from msgspec import Struct

from ollama_router_core.access.limits import room_for
from ollama_router_core.coordination.days import DayCounts
from ollama_router_core.coordination.interface import Admissions, Scope, Spent
from ollama_router_core.coordination.minutes import MinuteCounts
from ollama_router_core.coordination.shared_limits import MINUTE_SECONDS, part_of, share_of

__all__ = ["Replica", "Seen"]


class Seen(Struct, frozen=True, kw_only=True):
    """What the store knew of the group: members, what the others hold, since when they wait, drains by server.

    `rank` is this member's place among all, from 0.
    """

    members: int
    rank: int
    elsewhere: Mapping[Scope, Mapping[str, int]]
    waiting: Mapping[str, float]
    drains: Mapping[str, bool]


class Replica:
    """One member's own counts, exact, and the others' as of the last exchange.

    While the store cannot be asked (`away`), or has forgotten what the others hold (`settling`), the member decides
    alone: it goes by its share of every limit, and the others are taken to hold the rest. What they held when that was
    last known counts until the leases of then have expired: so long a member takes no more than what it held itself
    and its part of what was free.

    Attributes:
        name: the member's, by which equals are put in order.
        own: what this member holds.
        members: how many there were, itself included, when the store last knew all of them.
        rank: which of them this is, from 0.
        away: whether the store cannot be asked.
        settling: whether the store does not know all members yet.
        acquainted: whether this member has ever known the others.
        since: when the request arrived that waits longest here.
        heads: the same for each server that requests wait for.
        claiming: slots that were asked for and not answered yet; who asks is in the line until then.
        others_wait: whether requests wait in other members, when that was last heard.
        days: what all had used, when this member last asked.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.own: dict[Scope, Counter[str]] = {scope: Counter() for scope in Scope}
        self.members = 1
        self.rank = 0
        self.away = True
        self.settling = False
        self.acquainted = False
        self.since: float | None = None
        self.heads: dict[str, float] = {}
        self.claiming = 0
        self.others_wait = False
        self._elsewhere: dict[Scope, dict[str, int]] = {scope: {} for scope in Scope}
        self._limits: dict[tuple[Scope, str], int] = {}
        self._held_before: Mapping[Scope, Counter[str]] | None = None
        self._leases_end = float("-inf")
        self._waiting: Mapping[str, float] = {}
        self._drains: dict[str, bool] = {}
        self._admitted = MinuteCounts()
        self._admitted_elsewhere: dict[str, Mapping[int, int]] = {}
        self._spent, self._spent_here = MinuteCounts(), MinuteCounts()
        self.days = DayCounts()

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
        if not self.alone:
            return self._elsewhere[scope].get(name, 0)
        limit = self._limits.get((scope, name))
        return 0 if limit is None else limit - self._share(scope, name, limit)

    def all_elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return the same of many names, without those of which nothing is held."""
        if not self.alone and not self._elsewhere[scope]:
            return {}
        return {name: count for name in names if (count := self.elsewhere(scope, name))}

    def asked(self, scope: Scope, name: str, limit: int) -> bool:
        """Remember a limit: while this member decides alone, it keeps to its share. Say whether it was the same."""
        before, self._limits[scope, name] = self._limits.get((scope, name)), limit
        return before == limit

    def may_take_alone(self, scope: Scope, name: str, limit: int) -> bool:
        """Say whether this member holds less than its share of a limit."""
        return self.own[scope][name] < self._share(scope, name, limit)

    def _share(self, scope: Scope, name: str, limit: int) -> int:
        share = share_of(limit, self.members, self.rank)
        if self._held_before is None:
            return share
        held = self._held_before[scope][name]
        free = limit - held - self._elsewhere[scope].get(name, 0)
        return min(share, held + part_of(free, self.members, self.rank))

    def answered(self, scope: Scope, name: str, *, elsewhere: int, full: int | None = None) -> None:
        """Note what the others hold; of a limit that is reached, what this member does not hold is theirs.

        While this member decides alone, what the store knows is too little.
        """
        if self.alone:
            return
        known = elsewhere if full is None else max(elsewhere, full - self.own[scope][name])
        self._elsewhere[scope][name] = known

    # --- requests in a minute ---------------------------------------------------------------------------------------

    def admitted(self, user: str, second: int) -> None:
        """Count a request of a user in a second of the store's clock."""
        self._admitted.add(user, second)

    def own_admitted(self, user: str, second: int) -> int:
        """Return how many requests of a user this member admitted in the minute before a second."""
        return sum(self._admitted.minute(user, second).values())

    def admissions_of_all(self, user: str, seconds: Mapping[int, int]) -> None:
        """Note what all members admitted; `seconds` counts by seconds of the store's clock."""
        own = Counter(self._admitted.since(user, 0))
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

    # --- tokens in a minute -----------------------------------------------------------------------------------------

    def spend(self, user: str, second: int, tokens: int) -> None:
        """Count tokens of a user in a second of the store's clock; a negative number takes them back."""
        self._spent.add(user, second, tokens)
        self._spent_here.add(user, second, tokens)

    def spent_by_all(self, user: str, seconds: Mapping[int, int]) -> None:
        """Note what all members have counted, by seconds of the store's clock."""
        self._spent.replace(user, seconds)

    def may_spend_alone(self, user: str, second: int, tokens: int, limit: int) -> bool:
        """Say whether tokens fit into this member's share of a limit."""
        used = sum(self._spent_here.minute(user, second).values())
        return room_for(tokens, used=used, limit=share_of(limit, self.members, self.rank))

    def spent(self, user: str, now: float, offset: float) -> list[Spent]:
        """Return what was counted in the last minute, as known here; `offset` as for `admissions`."""
        rows = sorted((self._spent_here if self.away else self._spent).minute(user, int(now + offset)).items())
        return [Spent(min(now, second + 1.0 - offset), tokens) for second, tokens in rows if tokens]

    # --- order and drains -------------------------------------------------------------------------------------------

    def waits(self, since: float | None) -> bool:
        """Note since when requests wait here; False where that is known. Others see it, and say so, a moment later."""
        if since == self.since or (since is None and self.claiming):
            return False
        self.since = since
        self._waiting = {name: at for name, at in self._waiting.items() if name != self.name}
        return True

    def next_in_line(self, server: str, arrived: float) -> float:
        """Return since when the request waits whose turn a claim takes: this member's first, whichever of its own goes.

        A first one gives one turn: call it as the turn is asked for, and `had_no_turn` where it was not given.
        """
        return min(arrived, self.heads.pop(server, arrived))

    def had_no_turn(self, server: str, since: float) -> None:
        """Note that the slot for this member's first was refused."""
        self.heads.setdefault(server, since)

    def waits_longest(self) -> bool:
        """Say whether the request that waits longest here waits longest in the group."""
        if self.since is None or self.away:
            return self.since is not None
        own = self._waiting.get(self.name)  # as the others see it: two clocks would let two members say so
        others = ((since, name) for name, since in self._waiting.items() if name != self.name)
        return own is not None and all((own, self.name) < other for other in others)

    @property
    def somebody_waits(self) -> bool:
        """Whether a request waits in any member, as far as is known."""
        return self.since is not None or self.others_wait

    def drain(self, server: str, *, on: bool) -> None:
        """Note the last word about a server."""
        self._drains[server] = on

    def drained(self, server: str) -> bool | None:
        """Return the last word about a server; None when there was none."""
        return self._drains.get(server)

    # --- the store --------------------------------------------------------------------------------------------------

    @property
    def alone(self) -> bool:
        """Whether this member decides without the store; one that never knew the others waits for it to settle."""
        return self.away or (self.settling and self.acquainted)

    def go_alone(self, *, leases_end: float) -> None:
        """Decide by what is known now; `leases_end` is when what the others held is surely given back or renewed."""
        if self._held_before is None and not self.alone:
            self._held_before = {scope: Counter(self.own[scope]) for scope in Scope}
            self._leases_end = leases_end

    def passed(self, now: float) -> None:
        """Note the time."""
        if self._held_before is not None and now >= self._leases_end:
            self._held_before = None

    def saw(self, seen: Seen) -> None:
        """Take over what the store knows; while it is settling, only the line and the drains."""
        if not self.settling:
            self.members, self.rank = max(1, seen.members), seen.rank
            self._elsewhere = {scope: dict(seen.elsewhere.get(scope, {})) for scope in Scope}
            self._held_before, self.acquainted = None, True
        self._waiting = seen.waiting
        self.others_wait = any(name != self.name for name in seen.waiting)
        self._drains = dict(seen.drains)
