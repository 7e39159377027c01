"""The tokens of users who have a limit a day or a month, as the database counts them for all processes."""

from __future__ import annotations

from ollama_router_core.access.limits import Meter, day_of, first_day_of_month
from ollama_router_server.accounts.unwritten_tokens import UnwrittenTokens
from ollama_router_server.storage.token_usage import DayOfUser, TokenUsage
from ollama_router_server.system import Clock

__all__ = ["FollowedTokens"]

_IDLE = 300.0  # seconds after which another process's use of a user's tokens is no longer read back


class FollowedTokens:
    """Keeps the tokens in `meters` what the database says plus what is not written yet.

    Args:
        usage: where tokens are kept.
        meters: of this process's users; only their tokens are changed.
        clock: for days, and for when a user was last asked for.
        refresh_interval: seconds between reads of what other processes wrote.
    """

    def __init__(self, usage: TokenUsage, meters: dict[str, Meter], clock: Clock, *, refresh_interval: float) -> None:
        self._usage = usage
        self._meters = meters
        self._clock = clock
        self._refresh_interval = refresh_interval
        self._unwritten = UnwrittenTokens(usage)
        self._asked: dict[str, float] = {}  # user to when last asked for
        self._refreshed = float("-inf")

    def __contains__(self, user: str) -> bool:
        """Whether a user's tokens are kept up."""
        return user in self._asked

    def ask(self, user: str) -> None:
        """Keep them up for a while longer."""
        self._asked[user] = self._clock.monotonic()

    async def follow(self, user: str) -> None:
        """Read what a user took before this process, or this limit, existed; keep it up from now on.

        Raises:
            StorageUnavailable: it cannot be read.
        """
        today = day_of(self._clock.wall())
        first_day = first_day_of_month(today)
        await self._usage.count_anew(user, first_day=first_day, today=today)
        self._set({user}, await self._usage.read([user], first_day=first_day))
        self.ask(user)

    def take(self, user: str, day: int, tokens: int) -> None:
        """Count tokens of a user's day, for the database too."""
        self._meters[user].take(day, tokens)
        self._unwritten.add(user, day, tokens)

    async def write(self) -> None:
        """Add to the database what was taken.

        Raises:
            StorageUnavailable: it is kept.
        """
        await self._unwritten.write()

    async def refresh(self) -> None:
        """Read what other processes wrote, if that was long ago; who was not asked for is left out from then on.

        Raises:
            StorageUnavailable: it cannot be read.
        """
        now = self._clock.monotonic()
        if now - self._refreshed < self._refresh_interval:
            return
        self._refreshed = now
        idle = [name for name, asked in self._asked.items() if now - asked > _IDLE]
        for name in idle:
            if not self._meters[name].in_flight:  # what a request uses is counted on top of what is known
                del self._asked[name]
        users = set(self._asked)
        if users:
            first_day = first_day_of_month(day_of(self._clock.wall()))
            self._set(users, await self._usage.read(users, first_day=first_day))

    def _set(self, users: set[str], counts: dict[DayOfUser, int]) -> None:
        """Set the tokens to the database's, plus what was charged here since the last write."""
        for name in users:
            self._meters[name].tokens.clear()
        for source in (counts.items(), self._unwritten.items()):
            for (name, day), tokens in source:
                if name in users:
                    self._meters[name].take(day, tokens)
