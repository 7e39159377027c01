"""People for whom a client with one token speaks: found by name, or created on first use if the config allows it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Coroutine
from typing import Any

from msgspec.structs import replace

from ollama_router_core.access.speaking import spoken_grants, spoken_role
from ollama_router_core.config.settings import Persons
from ollama_router_core.errors import Forbidden, LimitExceeded, UserInactive
from ollama_router_server.storage.identities import User
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import Clock

__all__ = ["SpokenFor"]

_KEPT = 4096
"""Maximum number of people in memory."""
_MADE_A_MINUTE = 60
"""Maximum number of people that one process creates per minute: each makes all processes reload the users."""
_MINUTE = 60.0


class SpokenFor:
    """People by name, as of the epoch in which they were read.

    Attributes:
        settings: how unknown names are treated.
    """

    def __init__(self, users: UserStore, *, clock: Clock) -> None:
        self._users = users
        self._clock = clock
        self.settings = Persons()
        self._known: OrderedDict[str, tuple[int, User]] = OrderedDict()
        self._made: deque[float] = deque()

    def find(self, speaker: User, name: str, *, epoch: int) -> User | Coroutine[Any, Any, User]:
        """Find the person, or return an awaitable if the database has to be read.

        Raises:
            Forbidden: the speaker may not speak for this person, or the person is deactivated.
        """
        known = self._known.get(name)
        if known is not None and known[0] == epoch:
            self._known.move_to_end(name)
            return _spoken_for(speaker, known[1])
        return self._ask(speaker, name, epoch)

    async def _ask(self, speaker: User, name: str, epoch: int) -> User:
        person = await self._users.person(name)
        if person is None:
            await self._make(speaker, name)
            person = await self._users.person(name)
        if person is None:
            raise _unknown(name)
        self._known[name] = epoch, person
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return _spoken_for(speaker, person)

    async def _make(self, speaker: User, name: str) -> None:
        if self.settings.unknown == "refuse" or (speaker.grants.speaks_for == "group" and speaker.group is None):
            raise _unknown(name)
        now = self._clock.monotonic()
        while self._made and self._made[0] <= now - _MINUTE:
            self._made.popleft()
        if len(self._made) >= _MADE_A_MINUTE:
            raise LimitExceeded(
                f"at most {_MADE_A_MINUTE} new people may be created per minute",
                retry_after=self._made[0] + _MINUTE - now,
            )
        self._made.append(now)
        most = self.settings.max_users
        if not await self._users.add_person(name, group=speaker.group, spoken_for_by=speaker.name, most=most):
            raise Forbidden(f"the limit of {most} users without a token is reached; see the setting persons.max_users")


def _spoken_for(speaker: User, person: User) -> User:
    """Return the person with the speaker's token, and with no more than a user's rights."""
    if speaker.grants.speaks_for == "group" and (person.group is None or person.group != speaker.group):
        raise Forbidden(f"{speaker.name} may act only for people in its own group")
    if not person.active:
        raise UserInactive(f"user {person.name} is deactivated; an administrator can activate it")
    role = spoken_role(speaker.role, person.role)
    grants = spoken_grants(speaker.grants, person.grants)
    return replace(person, role=role, grants=grants, token_id=speaker.token_id)


def _unknown(name: str) -> Forbidden:
    return Forbidden(
        f"there is no user {name[:100]!r}; an administrator can create the user, or set persons.unknown to make"
    )
