"""Writes by authentication: proofs of tokens that bcrypt has confirmed, and last-used times."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.identities import KnownToken
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import Clock

__all__ = ["TokenWrites"]

_NOTE_USE_AFTER = 30.0  # seconds between writes of last-used times
_STORE_PROOFS_AFTER = 0.2  # seconds in which proofs of several tokens are batched
_RETRY_PROOFS_AFTER = 5.0  # seconds before a failed write is retried


class TokenWrites:
    """Write in the background; no request waits."""

    def __init__(self, users: UserStore, *, clock: Clock) -> None:
        self._users = users
        self._clock = clock
        self._used: set[int] = set()
        self._unstored: dict[int, KnownToken] = {}
        self._proven = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def unstored(self) -> Mapping[int, KnownToken]:
        """Tokens that bcrypt has confirmed and whose proof is not in the database yet, by id."""
        return self._unstored

    def start(self) -> None:
        """Start; needs a running event loop."""
        self._tasks = (asyncio.create_task(self._note_uses()), asyncio.create_task(self._store_proofs()))

    async def aclose(self) -> None:
        """Write pending proofs and times, and stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._write_proofs()
        await self._write_uses()

    def used(self, token_id: int) -> None:
        """Note that a token is in use."""
        self._used.add(token_id)

    def proven(self, known: KnownToken) -> None:
        """Store a token's proof, so that bcrypt runs once per token."""
        self._unstored[known.user.token_id] = known
        self._proven.set()

    async def _store_proofs(self) -> None:
        while True:
            await self._proven.wait()
            self._proven.clear()
            await asyncio.sleep(_STORE_PROOFS_AFTER)
            if not await self._write_proofs():
                await asyncio.sleep(_RETRY_PROOFS_AFTER)
                self._proven.set()

    async def _write_proofs(self) -> bool:
        """Write pending proofs; return whether the database has accepted them."""
        waiting = dict(self._unstored)
        try:
            await self._users.store_proofs(tuple(waiting.values()))
        except StorageUnavailable:
            return False
        for token_id, known in waiting.items():
            if self._unstored.get(token_id) is known:
                del self._unstored[token_id]
        return True

    async def _note_uses(self) -> None:
        while True:
            await asyncio.sleep(_NOTE_USE_AFTER)
            await self._write_uses()

    async def _write_uses(self) -> None:
        used, self._used = self._used, set()
        with suppress(StorageUnavailable):  # last-used times are optional and must not fail a request
            await self._users.note_use(dict.fromkeys(used, self._clock.wall()))
