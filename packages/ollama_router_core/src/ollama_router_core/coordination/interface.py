"""One member's view of the shared state of a group.

Reads return local state; writes take effect locally and immediately. Neither waits, and neither is called per token or
piece of a response: a networked implementation keeps a copy of the others' state, collects its own changes, and
exchanges both in `beat`. For exact limits, `claim`, `count` and `charge` ask first: one round trip each, with a
deadline; releasing does not wait.

Counts are leases: they expire some time after their member's last beat (`LEASE_SECONDS` on one machine), and end
immediately when the group learns that the member has gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from ollama_router_core.coordination.days import DayBudget, DayUse
from ollama_router_core.coordination.news import News
from ollama_router_core.fleet.summary import Summary

__all__ = [
    "LEASE_SECONDS",
    "NOBODY",
    "NO_HEADS",
    "Admissions",
    "Charged",
    "Coordination",
    "Figure",
    "Group",
    "Scope",
    "Spent",
]

LEASE_SECONDS = 30.0
"""Seconds after a member's last beat until its leases expire."""


class Scope(StrEnum):
    """Kinds of counts: requests in flight by server or user, slots reserved for the longest-waiting request."""

    SERVER = "server"
    USER = "user"
    RESERVED = "reserved"


class Figure(StrEnum):
    """Numbers published by every member and summed on status pages."""

    WAITING = "waiting"
    DROPPED = "dropped"
    PENDING = "pending"


class Admissions(NamedTuple):
    """Requests of a user that were admitted in one second; `moment` is its end, on the monotonic clock."""

    moment: float
    requests: int


class Spent(NamedTuple):
    """Tokens of a user that were counted in one second; `moment` is its end, on the monotonic clock."""

    moment: float
    tokens: int


NO_HEADS: Final[Mapping[str, float]] = MappingProxyType({})
"""No request waits for a server."""
NOBODY: tuple[Admissions, ...] = ()
"""No admissions elsewhere."""


Charged = Callable[[float | None], None]
"""Called with the time at which tokens were counted; None if they were not."""


class Coordination(Protocol):
    """A process's view of its group. `now` is in seconds of the machine's monotonic clock."""

    @property
    def index(self) -> int:
        """This member's index, from 0; the first does duties that are done once."""

    @property
    def size(self) -> int:
        """Number of members."""

    @property
    def shares(self) -> bool:
        """Whether there are, or may be, other members."""

    @property
    def asks(self) -> bool:
        """Whether the local copy of the others' state may be stale, so that exact limits need a request."""

    @property
    def members(self) -> int:
        """Known number of members on all machines."""

    @property
    def rank(self) -> int:
        """This member's rank among them, from 0, in an order shared by all."""

    @property
    def away(self) -> bool:
        """Whether the others are unreachable: each member then uses its share of every limit."""

    @property
    def others_wait(self) -> bool:
        """Whether requests are known to wait in members that must be asked."""

    @property
    def group(self) -> str:
        """The group's name, unique on the same database."""

    @property
    def secret(self) -> bytes:
        """32 random bytes shared by the members."""

    # --- counts ---

    def take(self, scope: Scope, name: str) -> None:
        """Count a request of a user or on a server, or a reserved slot."""

    def give_back(self, scope: Scope, name: str, *, again: bool = True) -> None:
        """Release a count, if there is one. Without `again`, no claim may reuse it without asking."""

    def claim(
        self, scope: Scope, name: str, limit: int, done: Callable[[bool], None], *, arrived: float | None = None
    ) -> None:
        """Take a slot, if all members hold fewer than `limit`; call `done` once, now or later, with the outcome.

        Members leave a slot to each member whose request has waited longer for it (`heads` of `waits`) than one that
        `arrived` then, or than their own first.
        """

    async def count(self, user: str, now: float, *, concurrent: int | None, per_minute: int | None) -> bool:
        """Take and admit a user's request, if all members together are below both limits; else change nothing."""

    def elsewhere(self, scope: Scope, name: str) -> int:
        """Return the count of the other live members; never negative."""

    def all_elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return the counts of many names, without zeros."""

    def admit(self, user: str, now: float) -> None:
        """Count a request of a user in this second, for limits per minute."""

    def admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return the other members' admissions of the last minute, including members that have gone."""

    def own_admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return this member's admissions of the last minute, including those before this process started."""

    def charge(
        self, user: str, now: float, tokens: int, *, per_minute: int | None, days: DayBudget | None, done: Charged
    ) -> None:
        """Count tokens in this second and in the day of `days`, if the limits leave room.

        They must fit into the remaining tokens of the last minute (`room_for`), and any tokens must be left of the day
        and the month. `done` is called once, now or later, with the time at which they were counted, or None.
        """

    def spend(self, user: str, now: float, tokens: int) -> None:
        """Count tokens in the second of `now`; a negative number subtracts tokens that this member counted."""

    def spent(self, user: str, now: float) -> Sequence[Spent]:
        """Return the known tokens of all members in the last minute, oldest first."""

    def use(self, user: str, now: float, day: int, tokens: int, known: DayUse) -> None:
        """Count tokens of a day, or subtract them; `known` is this member's earlier view of the user."""

    def used(self, user: str, now: float, known: DayUse) -> DayUse:
        """Return the use counted by all members, as of the last request; `known` without a recent count."""

    async def count_of(self, user: str) -> None:
        """Fetch all members' current counts of a user, for `elsewhere`, `admissions` and `spent`."""

    # --- order ---

    def waits(self, since: float | None, heads: Mapping[str, float] = NO_HEADS) -> None:
        """Set when this member's longest-waiting request arrived; None if none waits.

        `heads` has the same for each server with waiting requests.
        """

    def waits_longest(self) -> bool:
        """Return whether that request has waited longest in the group; exactly one of equals has."""

    # --- facts ---

    def drain(self, server: str, *, on: bool) -> None:
        """Start or end a drain for all members, including those that start later."""

    def drained(self, server: str) -> bool | None:
        """Return the last drain state of a server; None without one."""

    def tell(self, news: News) -> None:
        """Send news to the other members."""

    def news(self) -> list[News]:
        """Return news from the others since the last call; on overflow, the oldest are lost."""

    def remember(self, summary: Summary) -> None:
        """Store this member's summary of the fleet for members that start later; the last one is kept for minutes."""

    def remembered(self) -> Summary | None:
        """Return the summary stored when this member started; None without one."""

    # --- figures ---

    def show(self, figure: Figure, value: int) -> None:
        """Set this member's figure."""

    def total(self, figure: Figure) -> int:
        """Return the sum over all members."""

    def publish(self, page: bytes) -> None:
        """Replace this member's page: metrics and requests in flight, as bytes."""

    def pages(self) -> list[bytes]:
        """Return the other members' pages."""

    def own_page(self) -> bytes:
        """Return this member's page, possibly from an earlier process; empty if there is none."""

    async def beat(self, now: float) -> None:
        """Renew this member's leases and exchange changes; call it a few times a second."""

    def on_change(self, stirred: Callable[[], None]) -> None:
        """Call `stirred` when an immediate beat pays, because others freed a slot or started a drain."""

    async def leave(self) -> None:
        """End this member's leases, as it has stopped."""


class Group(Protocol):
    """All members, for the process that starts and supervises them."""

    def member(self, index: int) -> Coordination:
        """Return one member's view."""

    def forget(self, index: int) -> None:
        """End the leases of a member that has gone; its admissions of the last minute still count."""

    def last_beat(self, index: int) -> float | None:
        """Return when a member last beat; None if it never did or was forgotten."""
