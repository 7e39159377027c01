"""The meters of users with limits: read before the first request counts, then written and re-read periodically."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from ollama_router_core.access.grants import Grants
from ollama_router_core.access.limits import Meter
from ollama_router_core.coordination.interface import Coordination
from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.accounts.followed_tokens import FollowedTokens
from ollama_router_server.storage.identities import User
from ollama_router_server.storage.router_activity import RouterActivity
from ollama_router_server.storage.token_usage import TokenUsage
from ollama_router_server.system import Clock

__all__ = ["OLD", "UsageMeters", "counts_requests", "has_token_limit"]

OLD = 1.0
"""Maximum age in seconds of other processes' counts when a request is admitted."""
_IDLE = 300.0
"""Seconds without a request after which other routers' admissions are no longer read."""

_log = structlog.get_logger(__name__)


def has_token_limit(grants: Grants) -> bool:
    """Return whether tokens of a day or a month are limited."""
    return grants.tokens_per_day is not None or grants.tokens_per_month is not None


def counts_requests(grants: Grants) -> bool:
    """Return whether requests per minute or concurrent requests are limited."""
    return grants.requests_per_minute is not None or grants.concurrent_requests is not None


class UsageMeters:
    """The meters of this process, by user; `last_used` is when one was last used. Arguments as for `UsageLimits`."""

    def __init__(
        self,
        usage: TokenUsage,
        *,
        workers: Coordination,
        routers: RouterActivity,
        clock: Clock,
        flush_interval: float,
        refresh_interval: float,
    ) -> None:
        self.known: dict[str, Meter] = {}
        self.tokens = FollowedTokens(usage, self.known, clock, refresh_interval=refresh_interval)
        self.last_used = float("-inf")
        self._workers = workers
        self._routers = routers
        self._clock = clock
        self._flush_interval = flush_interval
        self._refresh_interval = refresh_interval
        self._loading: dict[str, asyncio.Lock] = {}
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start writing; call it on a running event loop."""
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Write pending counts."""
        self._closing.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._flush()  # including that nothing is in flight here any more
        except StorageUnavailable as error:
            _log.warning("usage_limits_unavailable", error=str(error))
        except Exception:  # noqa: BLE001 - the process has to end
            _log.exception("usage_limits_failed")

    async def of(self, user: User) -> Meter:
        """Return a user's meter, including earlier usage.

        Raises:
            StorageUnavailable: earlier use is unknown and cannot be read.
        """
        name = user.name
        counts_tokens = has_token_limit(user.grants)
        if name not in self.known or (counts_tokens and name not in self.tokens):
            async with self._loading.setdefault(name, asyncio.Lock()):
                await self._load(user)
        if counts_tokens:
            self.tokens.touch(name)
        if counts_requests(user.grants) and not self._workers.asks and self._routers.age > OLD:
            with suppress(StorageUnavailable):  # then use the known counts
                await self._routers.read()
        return self.known[name]

    async def _load(self, user: User) -> None:
        """Read the usage from before this process, or this limit, existed."""
        name = user.name
        if name not in self.known:
            self.known[name] = await self._new_meter(name)
        if has_token_limit(user.grants) and name not in self.tokens:
            await self.tokens.follow(name)

    async def _new_meter(self, name: str) -> Meter:
        if not self._workers.asks:
            with suppress(StorageUnavailable):  # then use this router's own counts
                await self._routers.read()
        meter = Meter()
        for moment, count in self._workers.own_admissions(name, self._clock.monotonic()):
            for _ in range(count):
                meter.recall(moment)
        return meter

    async def _run(self) -> None:
        pause = self._flush_interval
        while not await self._closed_within(pause):
            pause = self._flush_interval
            try:
                await self._flush()
                await self.tokens.refresh()
                if self._clock.monotonic() - self.last_used < _IDLE and not self._workers.asks:
                    await self._routers.read()
            except StorageUnavailable as error:
                _log.warning("usage_limits_unavailable", error=str(error))
                pause = self._refresh_interval
            except Exception:  # noqa: BLE001 - counting must go on
                _log.exception("usage_limits_failed")

    async def _closed_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
        return self._closing.is_set()

    async def _flush(self) -> None:
        await self.tokens.write()
        if not self._workers.asks:
            await self._routers.publish(self.known)
