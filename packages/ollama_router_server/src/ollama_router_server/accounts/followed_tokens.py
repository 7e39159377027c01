"""Token counts of users with a limit per day or month, as the database has them for all processes."""

from __future__ import annotations

from ollama_router_core.access.limits import Meter, day_of, first_day_of_month
from ollama_router_server.accounts.unwritten_tokens import UnwrittenTokens
from ollama_router_server.storage.token_usage import DayOfUser, TokenUsage
from ollama_router_server.system import Clock

__all__ = ["FollowedTokens"]

_IDLE = 300.0  # seconds without a request after which a user's tokens are no longer read back


class FollowedTokens:
    """Keep the tokens in `meters` at the database's count plus what is not written yet.

    Args:
        usage: the store of token counts.
        meters: those of this process's users; only their tokens are changed.
        clock: for days, and for the last request of a user.
        refresh_interval: seconds between reads of other processes' counts.
    """

    def __init__(self, usage: TokenUsage, meters: dict[str, Meter], clock: Clock, *, refresh_interval: float) -> None:
        self._usage = usage
        self._meters = meters
        self._clock = clock
        self._refresh_interval = refresh_interval
        self._unwritten = UnwrittenTokens(usage)
        self._last_request: dict[str, float] = {}  # user to the time of the last request
        self._refreshed = float("-inf")

    def __contains__(self, user: str) -> bool:
        """Return whether a user's tokens are followed."""
        return user in self._last_request

    def touch(self, user: str) -> None:
        """Extend the time for which a user's tokens are followed."""
        self._last_request[user] = self._clock.monotonic()

    async def follow(self, user: str) -> None:
        """Read a user's tokens from before this process, or this limit, existed, and follow them.

        Raises:
            StorageUnavailable: they cannot be read.
        """
        today = day_of(self._clock.wall())
        first_day = first_day_of_month(today)
        await self._usage.count_anew(user, first_day=first_day, today=today)
        self._set({user}, await self._usage.read([user], first_day=first_day))
        self.touch(user)

    def take(self, user: str, day: int, tokens: int) -> None:
        """Count tokens of a user's day; `write` adds them to the database."""
        self._meters[user].take(day, tokens)
        self._unwritten.add(user, day, tokens)

    async def write(self) -> None:
        """Add pending tokens to the database.

        Raises:
            StorageUnavailable: the tokens stay pending.
        """
        await self._unwritten.write()

    async def refresh(self) -> None:
        """Read other processes' counts if that is due, and stop following idle users.

        Raises:
            StorageUnavailable: they cannot be read.
        """
        now = self._clock.monotonic()
        if now - self._refreshed < self._refresh_interval:
            return
        self._refreshed = now
        idle = [name for name, last in self._last_request.items() if now - last > _IDLE]
        for name in idle:
            if not self._meters[name].in_flight:  # a request in flight counts on top of the known tokens
                del self._last_request[name]
        users = set(self._last_request)
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
