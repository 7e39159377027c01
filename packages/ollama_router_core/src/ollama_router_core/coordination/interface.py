"""One member's view of what the members of a group share.

Reads answer from what the member knows now; writes take effect here at once. None of them waits and none is made per
token or piece of an answer: an implementation over a network keeps a copy of the others' state and collects its own
changes, and exchanges both in `beat`. That is one pipelined round trip a beat and none on the path of a request; an
operator who wants limits exact to the request can have the implementation exchange once before admission and once
after the end, which is the most that a request may cost.

Counts are leases: they count while their member gives signs of life, for `LEASE_SECONDS` after the last one, and end
at once when the group is told that it is gone. So a count is never lost, and never stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from ollama_router_core.coordination.news import News

__all__ = ["LEASE_SECONDS", "NOBODY", "Admissions", "Coordination", "Figure", "Group", "Scope"]

LEASE_SECONDS = 30.0
"""Seconds after a member's last beat at which what it holds counts no more."""


class Scope(Enum):
    """What is counted: requests in flight by server or user, slots kept for the request that has waited longest."""

    SERVER = "server"
    USER = "user"
    RESERVED = "reserved"


class Figure(Enum):
    """A number that every member shows of itself, summed on status pages."""

    WAITING = "waiting"
    DROPPED = "dropped"
    PENDING = "pending"


class Admissions(NamedTuple):
    """Requests of a user that were admitted in one second; `moment` is its end, on the monotonic clock."""

    moment: float
    requests: int


NOBODY: tuple[Admissions, ...] = ()
"""Nobody else admitted anything."""


class Coordination(Protocol):
    """What a process sees of its group. `now` is seconds of the machine's monotonic clock."""

    @property
    def index(self) -> int:
        """Which member this is, from 0; the first does what has to be done once."""

    @property
    def size(self) -> int:
        """How many members there are."""

    @property
    def group(self) -> str:
        """The group's name, unlike any other's on the same database."""

    @property
    def secret(self) -> bytes:
        """32 random bytes that the members have in common."""

    # --- counts ---

    def take(self, scope: Scope, name: str) -> None:
        """A request of a user, or for a server, begins here; or a slot of a server is reserved."""

    def give_back(self, scope: Scope, name: str) -> None:
        """It ended here."""

    def elsewhere(self, scope: Scope, name: str) -> int:
        """What the other members that live hold; never negative."""

    def admit(self, user: str, now: float) -> None:
        """Count a request of a user in this second, for limits per minute."""

    def admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """What the other members admitted in the last minute, also those that are gone since."""

    def own_admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """The same of this member: what was counted before this process began."""

    # --- order ---

    def waits(self, since: float | None) -> None:
        """The moment at which the longest waiting request arrived here; None when none waits."""

    def waits_longest(self) -> bool:
        """Whether that request has waited longest of all that wait in members that live; between equals one has."""

    # --- facts ---

    def drain(self, server: str, *, on: bool) -> None:
        """Tell all members, those that are started later too, that a server is drained or is not any more."""

    def drained(self, server: str) -> bool | None:
        """What was told last about a server; None when nothing was."""

    def tell(self, news: News) -> None:
        """Tell the other members."""

    def news(self) -> list[News]:
        """What the others told since the last call; too much of it is forgotten, oldest first."""

    # --- figures ---

    def show(self, figure: Figure, value: int) -> None:
        """Set this member's figure."""

    def total(self, figure: Figure) -> int:
        """The figure of all members."""

    def publish(self, page: bytes) -> None:
        """Replace what this member shows of itself: figures for metrics, requests under way."""

    def pages(self) -> list[bytes]:
        """What the other members published last."""

    def own_page(self) -> bytes:
        """What was published last as this member, be it by a process before this one; empty if nothing was."""

    async def beat(self, now: float) -> None:
        """Say that this member lives, and exchange what has to be; to be called a few times a second."""


class Group(Protocol):
    """All members, as whoever starts and watches them sees them."""

    def member(self, index: int) -> Coordination:
        """The view of one member."""

    def forget(self, index: int) -> None:
        """A member is gone: its leases end, what it admitted in the last minute counts on."""

    def last_beat(self, index: int) -> float | None:
        """When a member last said that it lives; None if it never did, or was forgotten since."""
