"""One member's view of what the members of a group share.

Reads answer from local state; writes take effect locally at once. None of them waits, and none is made per token or
piece of an answer: an implementation over a network keeps a copy of the others' state, collects its own changes, and
exchanges both in `beat`. Where a limit must be exact, `claim`, `count` and `charge` ask before they take: one round
trip each, with a deadline, and giving back waits for nothing.

Counts are leases: they are valid for some time after their member's last beat (`LEASE_SECONDS` on one machine), and end
at once when the group learns that the member is gone.
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
"""Seconds after a member's last beat at which what it holds counts no more."""


class Scope(StrEnum):
    """What is counted: requests in flight by server or user, slots reserved for the longest waiting request."""

    SERVER = "server"
    USER = "user"
    RESERVED = "reserved"


class Figure(StrEnum):
    """A number that every member shows of itself, summed on status pages."""

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
"""Nobody waits for a server."""
NOBODY: tuple[Admissions, ...] = ()
"""No admissions elsewhere."""


Charged = Callable[[float | None], None]
"""Told when tokens were counted; None if they were not."""


class Coordination(Protocol):
    """What a process sees of its group. `now` is seconds of the machine's monotonic clock."""

    @property
    def index(self) -> int:
        """Which member this is, from 0; the first does what has to be done once."""

    @property
    def size(self) -> int:
        """How many members there are."""

    @property
    def shares(self) -> bool:
        """Whether there are, or may be, other members."""

    @property
    def asks(self) -> bool:
        """Whether what is known here of the others may be out of date, so that limits are exact only by asking."""

    @property
    def members(self) -> int:
        """How many members there are, of all machines, as far as is known."""

    @property
    def rank(self) -> int:
        """Which of those members this is, from 0, in an order that all agree on."""

    @property
    def away(self) -> bool:
        """Whether the others cannot be asked: then each member uses its share of every limit."""

    @property
    def others_wait(self) -> bool:
        """Whether requests wait in members that have to be asked, as far as is known."""

    @property
    def group(self) -> str:
        """The group's name, unlike any other's on the same database."""

    @property
    def secret(self) -> bytes:
        """32 random bytes that the members have in common."""

    # --- counts ---

    def take(self, scope: Scope, name: str) -> None:
        """Count a request of a user or for a server, or a reserved slot."""

    def give_back(self, scope: Scope, name: str, *, again: bool = True) -> None:
        """End what was taken; without effect where nothing was. Where not `again`, no claim may take it unasked."""

    def claim(
        self, scope: Scope, name: str, limit: int, done: Callable[[bool], None], *, arrived: float | None = None
    ) -> None:
        """Take, if all members hold fewer than `limit`; `done` is called once, now or later: whether it was taken.

        Members that ask each other leave a slot each to those whose requests wait longer for it (`heads` of `waits`)
        than one that `arrived` then, or than their own first.
        """

    async def count(self, user: str, now: float, *, concurrent: int | None, per_minute: int | None) -> bool:
        """Take and admit a request of a user, if all members together are below both limits; else change nothing."""

    def elsewhere(self, scope: Scope, name: str) -> int:
        """Return what the other live members hold; never negative."""

    def all_elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return the same of many names, without those of which nothing is held."""

    def admit(self, user: str, now: float) -> None:
        """Count a request of a user in this second, for limits per minute."""

    def admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return what the other members admitted in the last minute, including those that are gone since."""

    def own_admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return the same of this member: what was counted before this process began."""

    def charge(
        self, user: str, now: float, tokens: int, *, per_minute: int | None, days: DayBudget | None, done: Charged
    ) -> None:
        """Count tokens where limits leave room: in this second and in the day of `days`, or nowhere.

        There is room where they fit into what all members left of the last minute (`room_for`), and where those left
        anything of the day and the month. `done` is called once, now or later: with the moment they were counted at,
        or None.
        """

    def spend(self, user: str, now: float, tokens: int) -> None:
        """Count tokens in the second of `now`; a negative number takes back what this member counted there."""

    def spent(self, user: str, now: float) -> Sequence[Spent]:
        """Return what all members counted in the last minute, oldest first, as far as is known here."""

    def use(self, user: str, now: float, day: int, tokens: int, known: DayUse) -> None:
        """Count tokens of a day, or take them back; `known` is what this member knew of the user before."""

    def used(self, user: str, now: float, known: DayUse) -> DayUse:
        """Return what all members counted, as of the last time that this one asked; `known` where nobody did lately."""

    async def count_of(self, user: str) -> None:
        """Learn what all members have counted of a user by now, for `elsewhere`, `admissions` and `spent`."""

    # --- order ---

    def waits(self, since: float | None, heads: Mapping[str, float] = NO_HEADS) -> None:
        """Tell when the longest waiting request of this member arrived; None when none waits.

        `heads` has the same for each server that requests wait for.
        """

    def waits_longest(self) -> bool:
        """Say whether that request has waited longest in the group; of equals, exactly one has."""

    # --- facts ---

    def drain(self, server: str, *, on: bool) -> None:
        """Begin or end a drain for all members, including those that start later."""

    def drained(self, server: str) -> bool | None:
        """Return what was last told about a server; None when nothing was."""

    def tell(self, news: News) -> None:
        """Send news to the other members."""

    def news(self) -> list[News]:
        """Return what the others sent since the last call; of too many, the oldest are lost."""

    def remember(self, summary: Summary) -> None:
        """Keep what this member believes of the fleet for those that come; the last one said holds, for minutes."""

    def remembered(self) -> Summary | None:
        """Return what was kept as this member came; None when nothing was."""

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
        """Return this member's page, possibly of a process before this one; empty if there is none."""

    async def beat(self, now: float) -> None:
        """Renew this member's leases and exchange what was collected; call it a few times a second."""

    def on_change(self, stirred: Callable[[], None]) -> None:
        """Call `stirred` when a beat is worth its while at once, because others freed a slot or began a drain."""

    async def leave(self) -> None:
        """End this member's leases: it has stopped."""


class Group(Protocol):
    """All members, for the process that starts and supervises them."""

    def member(self, index: int) -> Coordination:
        """Return one member's view."""

    def forget(self, index: int) -> None:
        """End the leases of a member that is gone; what it admitted in the last minute still counts."""

    def last_beat(self, index: int) -> float | None:
        """Return when a member last beat; None if it never did, or was forgotten since."""
