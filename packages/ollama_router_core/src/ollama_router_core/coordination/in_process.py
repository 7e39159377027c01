"""Coordination within one process: a router with one worker, or several in one program."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from ollama_router_core.access.limits import room_for
from ollama_router_core.coordination.days import DayBudget, DayCounts, DayUse
from ollama_router_core.coordination.interface import (
    LEASE_SECONDS,
    NO_HEADS,
    NOBODY,
    Admissions,
    Charged,
    Coordination,
    Figure,
    Scope,
    Spent,
)
from ollama_router_core.coordination.minutes import MinuteCounts
from ollama_router_core.coordination.news import News
from ollama_router_core.coordination.one_machine import OneMachineMember
from ollama_router_core.coordination.shared_limits import count_here
from ollama_router_core.fleet.summary import Summary

__all__ = ["InProcess", "InProcessMember"]

_MOST_NEWS = 1024


class InProcess:
    """The group and its shared state. Not thread-safe.

    Args:
        name: unique among groups on the same database.
        secret: 32 random bytes.
        size: number of members.

    Attributes:
        members: all members, by index.
    """

    def __init__(self, name: str, secret: bytes, *, size: int = 1) -> None:
        self.members = [InProcessMember(self, index, size) for index in range(size)]
        self.name = name
        self.secret = secret
        self.drains: dict[str, bool] = {}
        self.days = DayCounts()
        self.summary: Summary | None = None

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.members)

    def member(self, index: int = 0) -> Coordination:
        """Return one member's view."""
        return self.members[index]

    def forget(self, index: int) -> None:
        """End the leases of a member that has gone."""
        self.members[index].end()

    def last_beat(self, index: int) -> float | None:
        """Return when a member last beat."""
        return self.members[index].beaten

    def others(self, index: int) -> Iterator[InProcessMember]:
        """Return every member but one."""
        return (member for member in self.members if member.index != index)


class InProcessMember(OneMachineMember):
    """One member's view, and the state that it shows the others."""

    def __init__(self, all_members: InProcess, index: int, size: int) -> None:
        super().__init__(index, size)
        self._all = all_members
        self.beaten: float | None = None
        self.counts: dict[Scope, Counter[str]] = {scope: Counter() for scope in Scope}
        self.admitted = MinuteCounts()
        self.charged = MinuteCounts()
        self.since: float | None = None
        self.unread: deque[News] = deque(maxlen=_MOST_NEWS)
        self.figures: Counter[Figure] = Counter()
        self.page = b""

    @property
    def group(self) -> str:
        """The group's name."""
        return self._all.name

    @property
    def secret(self) -> bytes:
        """32 bytes shared by the members."""
        return self._all.secret

    def take(self, scope: Scope, name: str) -> None:
        """Count a request, or a reserved slot."""
        self.counts[scope][name] += 1

    def give_back(self, scope: Scope, name: str, *, again: bool = True) -> None:
        """Release a count."""
        del again  # every claim looks
        if self.counts[scope][name] > 0:
            self.counts[scope][name] -= 1

    def claim(
        self, scope: Scope, name: str, limit: int, done: Callable[[bool], None], *, arrived: float | None = None
    ) -> None:
        """Take a slot, if all members hold fewer than `limit`."""
        del arrived
        taken = self.counts[scope][name] + self.elsewhere(scope, name) < limit
        if taken:
            self.take(scope, name)
        done(taken)

    async def count(self, user: str, now: float, *, concurrent: int | None, per_minute: int | None) -> bool:
        """Take and admit a user's request, if all members together are below both limits."""
        return count_here(self, self.counts[Scope.USER][user], user, now, concurrent, per_minute)

    def elsewhere(self, scope: Scope, name: str) -> int:
        """Return the count of the other live members."""
        return sum(member.counts[scope][name] for member in self._living())

    def all_elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return the counts of many names, without zeros."""
        return {name: count for name in names if (count := self.elsewhere(scope, name))}

    def admit(self, user: str, now: float) -> None:
        """Count a request of a user in this second."""
        self.admitted.add(user, int(now))

    def admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return the other members' admissions of the last minute."""
        if self.size == 1:
            return NOBODY
        return [row for member in self._all.others(self.index) for row in member.own_admissions(user, now)]

    def own_admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return this member's admissions of the last minute."""
        seconds = self.admitted.minute(user, int(now)).items()
        return [Admissions(min(now, second + 1.0), count) for second, count in seconds]

    def charge(
        self, user: str, now: float, tokens: int, *, per_minute: int | None, days: DayBudget | None, done: Charged
    ) -> None:
        """Count tokens in this second and day, if the limits leave room."""
        used = sum(row.tokens for row in self.spent(user, now))
        free = per_minute is None or room_for(tokens, used=used, limit=per_minute)
        free = free and (days is None or days.has_room(self._all.days.of(user, now, days.known)))
        if free and per_minute is not None:
            self.spend(user, now, tokens)
        if free and days is not None:
            self.use(user, now, days.known.day, tokens, days.known)
        done(now if free else None)

    def spend(self, user: str, now: float, tokens: int) -> None:
        """Count tokens in the second of `now`."""
        self.charged.add(user, int(now), tokens)

    def spent(self, user: str, now: float) -> Sequence[Spent]:
        """Return the tokens of all members in the last minute, oldest first."""
        rows = [row for member in self._all.members for row in member.charged.minute(user, int(now)).items()]
        return [Spent(min(now, second + 1.0), tokens) for second, tokens in sorted(rows)]

    def use(self, user: str, now: float, day: int, tokens: int, known: DayUse) -> None:
        """Count tokens of a day."""
        self._all.days.use(user, now, day, tokens, known)

    def used(self, user: str, now: float, known: DayUse) -> DayUse:
        """Return the use counted by all members."""
        return self._all.days.of(user, now, known)

    def waits(self, since: float | None, heads: Mapping[str, float] = NO_HEADS) -> None:
        """Set when the longest-waiting request arrived."""
        del heads  # what the others see at once needs no reservation for longer than until they look
        self.since = since

    def waits_longest(self) -> bool:
        """Return whether that request has waited longest in the group."""
        if self.since is None:
            return False
        others = ((member.since, member.index) for member in self._living() if member.since is not None)
        return all((self.since, self.index) < other for other in others)

    def drain(self, server: str, *, on: bool) -> None:
        """Start or end a drain for all members."""
        self._all.drains[server] = on

    def drained(self, server: str) -> bool | None:
        """Return the last drain state of a server."""
        return self._all.drains.get(server)

    def tell(self, news: News) -> None:
        """Send news to the other members."""
        for member in self._all.others(self.index):
            member.unread.append(news)

    def news(self) -> list[News]:
        """Return news from the others since the last call."""
        found = list(self.unread)
        self.unread.clear()
        return found

    def remember(self, summary: Summary) -> None:
        """Store this member's summary of the fleet."""
        self._all.summary = summary

    def remembered(self) -> Summary | None:
        """Return the stored summary."""
        return self._all.summary

    def show(self, figure: Figure, value: int) -> None:
        """Set this member's figure."""
        self.figures[figure] = value

    def total(self, figure: Figure) -> int:
        """Return the sum over all members."""
        return self.figures[figure] + sum(member.figures[figure] for member in self._all.others(self.index))

    def publish(self, page: bytes) -> None:
        """Replace this member's page."""
        self.page = page

    def pages(self) -> list[bytes]:
        """Return the other members' pages."""
        return [member.page for member in self._all.others(self.index) if member.page]

    def own_page(self) -> bytes:
        """Return this member's page."""
        return self.page

    async def beat(self, now: float) -> None:
        """Renew this member's leases."""
        self.beaten = now

    def on_change(self, stirred: Callable[[], None]) -> None:
        """Do nothing: no state is fetched."""

    async def leave(self) -> None:
        """End this member's leases."""
        self.end()

    def end(self) -> None:
        """End this member's leases, queue and figures."""
        self.beaten = self.since = None
        for counts in self.counts.values():
            counts.clear()
        self.figures.clear()

    def _living(self) -> Iterator[InProcessMember]:
        """Yield the others whose leases were valid at this member's last beat."""
        for member in self._all.others(self.index):
            if self.beaten is None or member.beaten is None or self.beaten - member.beaten < LEASE_SECONDS:
                yield member
