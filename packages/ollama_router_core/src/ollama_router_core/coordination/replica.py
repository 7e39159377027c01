"""A member's view of its group between two exchanges with the shared store, for groups on several machines.

Times are in seconds of the member's own clock; the caller converts them from the store's clock.
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
    """The group's state in the store: the number of members, the others' counts, and drains by server.

    `rank` is this member's rank, from 0. `waiting` maps each member with waiting requests to the arrival time of the
    oldest.
    """

    members: int
    rank: int
    elsewhere: Mapping[Scope, Mapping[str, int]]
    waiting: Mapping[str, float]
    drains: Mapping[str, bool]


class Replica:
    """One member's exact counts, and the others' counts as of the last exchange.

    While the store is unreachable (`away`) or has lost the others' counts (`settling`), the member decides alone: it
    uses its share of every limit and assumes that the others hold the rest. The last known counts of the others apply
    until their leases expire: until then a member uses at most its own count at that time plus its share of the free
    slots.

    Attributes:
        name: the member's name; breaks ties.
        own: this member's counts.
        members: number of members, this one included, when the store last had all of them.
        rank: this member's rank, from 0.
        away: whether the store is unreachable.
        settling: whether the store does not have all members yet.
        acquainted: whether this member has ever received the others' counts.
        since: when this member's longest-waiting request arrived.
        heads: the same for each server with waiting requests.
        claiming: number of pending claims; their requests count as waiting.
        others_wait: whether requests wait in other members, as of the last exchange.
        days: the use counted by all members, as of the last query.
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
        """Add one to this member's count."""
        self.own[scope][name] += 1

    def give_back(self, scope: Scope, name: str) -> bool:
        """Subtract one from this member's count; return False if it is zero."""
        if self.own[scope][name] < 1:
            return False
        self.own[scope][name] -= 1
        if not self.own[scope][name]:
            del self.own[scope][name]
        return True

    def elsewhere(self, scope: Scope, name: str) -> int:
        """Return the others' count: the last known one, or the rest of the limit while this member decides alone."""
        if not self.alone:
            return self._elsewhere[scope].get(name, 0)
        limit = self._limits.get((scope, name))
        return 0 if limit is None else limit - self._share(scope, name, limit)

    def all_elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return the others' counts of many names, without zeros."""
        if not self.alone and not self._elsewhere[scope]:
            return {}
        return {name: count for name in names if (count := self.elsewhere(scope, name))}

    def asked(self, scope: Scope, name: str, limit: int) -> bool:
        """Store a limit, for this member's share while it decides alone; return whether it is unchanged."""
        before, self._limits[scope, name] = self._limits.get((scope, name)), limit
        return before == limit

    def may_take_alone(self, scope: Scope, name: str, limit: int) -> bool:
        """Return whether this member's count is below its share of a limit."""
        return self.own[scope][name] < self._share(scope, name, limit)

    def _share(self, scope: Scope, name: str, limit: int) -> int:
        share = share_of(limit, self.members, self.rank)
        if self._held_before is None:
            return share
        held = self._held_before[scope][name]
        free = limit - held - self._elsewhere[scope].get(name, 0)
        return min(share, held + part_of(free, self.members, self.rank))

    def answered(self, scope: Scope, name: str, *, elsewhere: int, full: int | None = None) -> None:
        """Store the others' count; if the limit `full` is reached, they hold at least what this member does not.

        Ignored while this member decides alone, as the store's counts are then incomplete.
        """
        if self.alone:
            return
        known = elsewhere if full is None else max(elsewhere, full - self.own[scope][name])
        self._elsewhere[scope][name] = known

    # --- requests in a minute ---------------------------------------------------------------------------------------

    def admitted(self, user: str, second: int) -> None:
        """Count an admitted request of a user in a second of the store's clock."""
        self._admitted.add(user, second)

    def own_admitted(self, user: str, second: int) -> int:
        """Return the number of a user's requests that this member admitted in the minute before a second."""
        return sum(self._admitted.minute(user, second).values())

    def admissions_of_all(self, user: str, seconds: Mapping[int, int]) -> None:
        """Store the admissions of all members, by second of the store's clock."""
        own = Counter(self._admitted.since(user, 0))
        self._admitted_elsewhere[user] = {
            second: count - own[second] for second, count in seconds.items() if count > own[second]
        }

    def admissions(self, user: str, now: float, offset: float) -> list[Admissions]:
        """Return the others' admissions of the last minute; `offset` is the store's clock minus this member's."""
        oldest = int(now + offset) - MINUTE_SECONDS
        found = sorted(self._admitted_elsewhere.get(user, {}).items())
        return [
            Admissions(min(now, second + 1.0 - offset), count) for second, count in found if second >= oldest and count
        ]

    # --- tokens in a minute -----------------------------------------------------------------------------------------

    def spend(self, user: str, second: int, tokens: int) -> None:
        """Count tokens of a user in a second of the store's clock; a negative number subtracts them."""
        self._spent.add(user, second, tokens)
        self._spent_here.add(user, second, tokens)

    def spent_by_all(self, user: str, seconds: Mapping[int, int]) -> None:
        """Store the tokens counted by all members, by second of the store's clock."""
        self._spent.replace(user, seconds)

    def may_spend_alone(self, user: str, second: int, tokens: int, limit: int) -> bool:
        """Return whether tokens fit into this member's share of a limit."""
        used = sum(self._spent_here.minute(user, second).values())
        return room_for(tokens, used=used, limit=share_of(limit, self.members, self.rank))

    def spent(self, user: str, now: float, offset: float) -> list[Spent]:
        """Return the known tokens of the last minute; `offset` as for `admissions`."""
        rows = sorted((self._spent_here if self.away else self._spent).minute(user, int(now + offset)).items())
        return [Spent(min(now, second + 1.0 - offset), tokens) for second, tokens in rows if tokens]

    # --- order and drains -------------------------------------------------------------------------------------------

    def waits(self, since: float | None) -> bool:
        """Set when the oldest waiting request arrived; return False if unchanged. The store confirms it later."""
        if since == self.since or (since is None and self.claiming):
            return False
        self.since = since
        self._waiting = {name: at for name, at in self._waiting.items() if name != self.name}
        return True

    def next_in_line(self, server: str, arrived: float) -> float:
        """Return the arrival time for a claim: that of this member's oldest request for the server.

        It is used once, whichever of the member's requests gets the slot: call this for each claim, and `had_no_turn`
        if the claim fails.
        """
        return min(arrived, self.heads.pop(server, arrived))

    def had_no_turn(self, server: str, since: float) -> None:
        """Restore the arrival time of a failed claim."""
        self.heads.setdefault(server, since)

    def waits_longest(self) -> bool:
        """Return whether this member's oldest waiting request is the group's oldest."""
        if self.since is None or self.away:
            return self.since is not None
        own = self._waiting.get(self.name)  # as the others see it: with two clocks, two members could be first
        others = ((since, name) for name, since in self._waiting.items() if name != self.name)
        return own is not None and all((own, self.name) < other for other in others)

    @property
    def somebody_waits(self) -> bool:
        """Whether a request is known to wait in any member."""
        return self.since is not None or self.others_wait

    def drain(self, server: str, *, on: bool) -> None:
        """Store a server's drain state."""
        self._drains[server] = on

    def drained(self, server: str) -> bool | None:
        """Return a server's last drain state; None without one."""
        return self._drains.get(server)

    # --- the store --------------------------------------------------------------------------------------------------

    @property
    def alone(self) -> bool:
        """Whether this member decides without the store; while settling, only if it has received counts before."""
        return self.away or (self.settling and self.acquainted)

    def go_alone(self, *, leases_end: float) -> None:
        """Freeze the known counts; at `leases_end` the others' counts are certainly released or renewed."""
        if self._held_before is None and not self.alone:
            self._held_before = {scope: Counter(self.own[scope]) for scope in Scope}
            self._leases_end = leases_end

    def passed(self, now: float) -> None:
        """Drop the frozen counts once the leases have ended."""
        if self._held_before is not None and now >= self._leases_end:
            self._held_before = None

    def saw(self, seen: Seen) -> None:
        """Adopt the store's state; while it is settling, only the waiting members and the drains."""
        if not self.settling:
            self.members, self.rank = max(1, seen.members), seen.rank
            self._elsewhere = {scope: dict(seen.elsewhere.get(scope, {})) for scope in Scope}
            self._held_before, self.acquainted = None, True
        self._waiting = seen.waiting
        self.others_wait = any(name != self.name for name in seen.waiting)
        self._drains = dict(seen.drains)
