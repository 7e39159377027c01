"""Members of one fleet over a Redis, as the coordination's tests want them."""

from __future__ import annotations

import asyncio
from typing import Any

import redis

from ollama_router_core.config.settings import CoordinationSettings
from ollama_router_core.coordination.in_process import InProcess
from ollama_router_core.coordination.interface import Coordination
from ollama_router_server.coordination.redis_member import RedisMember
from ollama_router_server.coordination.redis_store import RedisStore
from ollama_router_server.system import SystemClock

__all__ = ["RedisGroup"]

PREFIX = "orouter:{default}:"


class RedisGroup:
    """So many members; of a fleet that is `settled`, so that nobody has to wait for that."""

    def __init__(self, url: str, size: int, *, settled: bool = True, **settings: Any) -> None:
        self.url = url
        self.size = size
        self._settings = CoordinationSettings(**{"url": url, "timeout": 5.0, **settings})
        self._local = InProcess("router", b"s" * 32, size=size)
        self._members: dict[int, RedisMember] = {}
        self._gone: list[RedisStore] = []
        if settled:
            with redis.Redis.from_url(url) as client:
                client.set(f"{PREFIX}epoch", 1)

    def member(self, index: int) -> Coordination:
        """One member's view; after `forget`, that of its successor."""
        if index not in self._members:
            store = RedisStore(self.url, self._settings, f"router-{index}")
            self._members[index] = RedisMember(
                store,
                self._local.member(index),
                fleet="default",
                name=f"router-{index}",
                secret=b"s" * 32,
                clock=SystemClock(),
                lease=2 * self._settings.heartbeat,
            )
        return self._members[index]

    def redis(self, index: int) -> RedisMember:
        """One member, with what only this implementation has."""
        self.member(index)
        return self._members[index]

    def forget(self, index: int) -> None:
        """A member's process is gone, without a word."""
        gone = self._members.pop(index)
        for task in gone._exchange._tasks:
            task.cancel()
        self._gone.append(gone._exchange._store)
        self._local.forget(index)

    def last_beat(self, index: int) -> float | None:
        """When a member last beat."""
        return self._local.last_beat(index)

    async def aclose(self) -> None:
        """Have every member leave."""
        await asyncio.gather(*(member.leave() for member in self._members.values()))
        await asyncio.gather(*(store.aclose() for store in self._gone))
