"""Authentication: from header fields to a user, without waiting where possible.

The order keeps junk cheap: exactly one well-formed credential; a cached result; a public lookup that belongs to a
token, and its checksum; the token's stored proof, which accepts or rejects; bcrypt only for tokens without a proof,
off the event loop, in a few threads with a bounded queue, once for all requests with the same credential. A well-formed
but unknown credential is looked up in the database, by one read for all such requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace  # noqa: TID251 - a known token is a dataclass: its digest is not shown
from hmac import compare_digest
from typing import Any

import structlog

from ollama_router_core.access.tokens import REJECTED, VerifiedTokens, check_format, lookup_of, read_credential
from ollama_router_core.coordination.interface import Coordination
from ollama_router_core.coordination.news import TokenVerified
from ollama_router_core.errors import InvalidCredential, StorageUnavailable, UserInactive
from ollama_router_server.accounts.directory import Directory, index, next_expiry, with_proofs
from ollama_router_server.accounts.fresh_look import FreshLook
from ollama_router_server.accounts.spoken_for import SpokenFor
from ollama_router_server.accounts.token_writes import TokenWrites
from ollama_router_server.accounts.verification import Verification, Verifier
from ollama_router_server.storage.identities import KnownToken, User
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import Clock

__all__ = ["Authenticator", "Headers", "User", "Verification"]

Headers = Sequence[tuple[bytes, bytes]]

_RELOAD_AFTER = 60.0  # seconds; picks up changes made by hand, without a new epoch

_log = structlog.get_logger(__name__)


class Authenticator:
    """Every user and token as of the last `auth_epoch` seen.

    Call `start` once, then `authenticate` for each request. Everything runs on one event loop; only bcrypt uses
    threads.

    Args:
        users: the store of users.
        clock: measures ages.
        workers: the other workers, which are informed of verified tokens.
        poll_interval: seconds between reads of the epoch, which is how long a revocation takes to apply.
        grace: seconds without a successful read for which known users are admitted; then every request is rejected.
        max_waiting: credentials being verified or waiting for it; further ones are rejected.
    """

    def __init__(
        self,
        users: UserStore,
        *,
        clock: Clock,
        workers: Coordination,
        poll_interval: float = 0.25,
        grace: float = 600.0,
        max_waiting: int = 64,
    ) -> None:
        self._users = users
        self._clock = clock
        self._poll_interval = poll_interval
        self.grace = grace
        self._fresh = FreshLook(self.refresh, clock)
        self._verifier = Verifier(max_waiting)
        self._writes = TokenWrites(users, clock=clock)
        self.persons = SpokenFor(users, clock=clock)
        self._workers = workers
        self._verified: VerifiedTokens[KnownToken] = VerifiedTokens(workers.secret)
        self._directory = Directory(-1, {}, {})
        self._confirmed = self._loaded = float("-inf")
        self._refreshing = asyncio.Lock()  # an older result must not overwrite a newer one
        self._callbacks: list[Callable[[], None]] = []
        self._expiries_notified = clock.wall()
        self._next_expiry = float("inf")
        self._watching: asyncio.Task[None] | None = None
        self._reachable = True

    @property
    def verifications(self) -> int:
        """The number of bcrypt runs."""
        return self._verifier.verifications

    async def start(self) -> None:
        """Load the users and start to poll for changes.

        Raises:
            StorageUnavailable: the database cannot be read.
        """
        await self.refresh()
        self._watching = asyncio.create_task(self._watch())
        self._writes.start()

    async def aclose(self) -> None:
        """Stop polling and looking, end verifications, write pending proofs and last-used times."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._fresh.aclose()
        await self._verifier.aclose()
        await self._writes.aclose()

    def authenticate(self, headers: Headers, address: str | None = None) -> User | Verification:
        """Return the user, or an awaitable if bcrypt or the database has to decide; `address` is the client's.

        Raises:
            MissingCredential, AmbiguousCredential, InvalidCredential, UserInactive: the request is refused.
            StorageUnavailable: users were not confirmed for too long.
        """
        credential = read_credential(headers)
        known = self._find(credential)
        return Verification(self._verify, credential, address) if known is None else self._admit(known)

    def speaking(self, speaker: User, name: str) -> User | Coroutine[Any, Any, User]:
        """Return the person for whom a user speaks, or an awaitable if the database has to be read.

        Raises:
            Forbidden: the user may not speak for this person.
        """
        return self.persons.find(speaker, name, epoch=self._directory.epoch)

    @property
    def away_seconds(self) -> float | None:
        """Seconds since the database last answered; None while it is available."""
        return None if self._reachable else self._clock.monotonic() - self._confirmed

    def grace_left(self) -> float:
        """Seconds for which known users are still admitted without the database; negative once they are not."""
        return self.grace - (self._clock.monotonic() - self._confirmed)

    def hear(self, news: TokenVerified) -> None:
        """Apply another worker's verification, so that bcrypt need not run again for the same digest."""
        known = self._directory.by_token.get(news.token_id)
        if known is not None and compare_digest(self._verified.proof(news.key, known.digest), news.proof):
            now = self._clock.monotonic()
            self._verified.accept_key(news.key, known, epoch=self._directory.epoch, now=now)

    @property
    def alone(self) -> bool:
        """Whether at most one active user has a token."""
        return len({known.user.id for known in self._directory.by_token.values() if known.user.active}) <= 1

    def is_still_valid(self, user: User) -> bool:
        """Return whether a user's credential is still valid; called repeatedly while a response streams."""
        known = self._directory.by_token.get(user.token_id)
        if known is None or not known.user.active:
            return False
        expires_at = known.user.grants.expires_at
        return expires_at is None or self._clock.wall() < expires_at

    def user_of_token(self, token_id: int) -> User | None:
        """Return the active user who has this token; None if there is none."""
        known = self._directory.by_token.get(token_id)
        return known.user if known is not None and known.user.active else None

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after every change or expiry of users or tokens; return a function that unregisters it."""
        self._callbacks.append(callback)

        def remove() -> None:
            with suppress(ValueError):
                self._callbacks.remove(callback)

        return remove

    async def refresh(self) -> None:
        """Read the epoch now, and load the users if it has changed.

        Raises:
            StorageUnavailable: the database cannot be read.
        """
        async with self._refreshing:
            now = self._clock.monotonic()
            if now - self._loaded >= _RELOAD_AFTER or await self._users.epoch() != self._directory.epoch:
                await self._load()
            self._confirmed = now

    def _find(self, credential: str) -> KnownToken | None:
        """Return what is known without bcrypt, or None."""
        now = self._clock.monotonic()
        if self.grace_left() < 0:
            raise StorageUnavailable("users cannot be verified: the database does not respond", retry_after=5.0)
        known = self._verified.find(credential, epoch=self._directory.epoch, now=now)
        if known is REJECTED:
            raise _unknown()
        if known is not None:
            return known
        if (proven := self._find_proven(credential)) is not None:
            self._verified.accept(credential, proven, epoch=self._directory.epoch, now=now)
            return proven
        if not self._unproven(credential) and not self._may_be_new(credential):
            raise _unknown()
        return None

    def _may_be_new(self, credential: str) -> bool:
        """Return whether this token may have been created since the last poll, and a lookup is possible."""
        unknown = not self._candidates(credential) and check_format(credential)
        return unknown and self._reachable and self._fresh.has_room

    def _find_proven(self, credential: str) -> KnownToken | None:
        """Return the token whose proof matches this credential."""
        prover = self._users.prover
        if prover is None:
            return None
        for known in self._candidates(credential):
            if known.proof is not None and prover.fits(credential, known.digest, known.proof):
                return known
        return None

    def _unproven(self, credential: str) -> tuple[KnownToken, ...]:
        """Return the tokens for which only bcrypt can verify this credential."""
        return tuple(known for known in self._candidates(credential) if known.proof is None)

    def _candidates(self, credential: str) -> tuple[KnownToken, ...]:
        """Return the candidate tokens of a credential; only imported ones may lack our checksum."""
        sharing = self._directory.by_lookup.get(lookup_of(credential), ())
        if not sharing or check_format(credential):
            return sharing
        return tuple(known for known in sharing if known.imported)

    def _admit(self, known: KnownToken) -> User:
        user = known.user
        if not user.active:
            raise UserInactive(f"user {user.name} is deactivated; an administrator can activate it")
        self._writes.used(user.token_id)
        return user

    async def _verify(self, credential: str, address: str | None) -> User:
        if not self._candidates(credential):
            await self._fresh.take()
            if not self._candidates(credential):
                self._verified.reject(credential, epoch=self._directory.epoch, now=self._clock.monotonic())
                raise _unknown()
            found = self._find(credential)
            if found is not None:
                return self._admit(found)
        known = await self._verifier.once(credential, address, self._run_bcrypt)
        if known is None:
            raise _unknown()
        return self._admit(known)

    async def _run_bcrypt(self, credential: str) -> KnownToken | None:
        if (proven := self._find_proven(credential)) is not None:
            return proven  # the token or its proof was read during the lookup
        epoch = self._directory.epoch
        for candidate in self._unproven(credential):
            if await self._verifier.fits(credential, candidate.digest):
                return self._accept(credential, candidate)
        self._verified.reject(credential, epoch=epoch, now=self._clock.monotonic())
        return None

    def _accept(self, credential: str, verified: KnownToken) -> KnownToken | None:
        """Accept what bcrypt confirmed only if the digest is still current: it may have been replaced meanwhile."""
        current = self._renew(verified)
        if current is not None:
            current = self._prove(credential, current)
            now = self._clock.monotonic()
            key = self._verified.key(credential)
            self._verified.accept_key(key, current, epoch=self._directory.epoch, now=now)
            proof = self._verified.proof(key, current.digest)
            self._workers.tell(TokenVerified(key, current.user.token_id, proof))
        return current

    def _prove(self, credential: str, verified: KnownToken) -> KnownToken:
        """Keep a proof of what bcrypt confirmed, here and in the database, so that bcrypt runs once per token."""
        if self._users.prover is None:
            return verified
        proven = replace(verified, proof=self._users.prover.prove(credential, verified.digest))
        self._writes.proven(proven)
        self._directory = with_proofs(self._directory, self._writes.unstored)
        return proven

    def _renew(self, known: KnownToken) -> KnownToken | None:
        current = self._directory.by_token.get(known.user.token_id)
        return current if current is not None and current.digest == known.digest else None

    async def _load(self) -> None:
        now = self._clock.monotonic()
        directory = with_proofs(index(await self._users.identities()), self._writes.unstored)
        changed = directory != self._directory
        self._directory = directory
        self._loaded = now
        self._next_expiry = next_expiry(directory, self._expiries_notified)
        self._verified.carry_over(directory.epoch, self._renew)
        if changed:
            self._call_back()

    def _call_back(self) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback()
            except Exception:  # noqa: BLE001 - one listener's fault must not stop the watch over revocations
                _log.exception("auth_callback_failed")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_interval)
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - the watch must go on; staleness closes the door
                self._report(error)
            else:
                self._report(None)
            self._notify_expired()

    def _notify_expired(self) -> None:
        """Call back when a user's access has expired, since no record changes then."""
        wall = self._clock.wall()
        if wall >= self._next_expiry:
            self._expiries_notified = wall
            self._next_expiry = next_expiry(self._directory, wall)
            self._call_back()

    def _report(self, error: Exception | None) -> None:
        """Log the first failure and the recovery only, not each of four reads per second."""
        if error is not None and self._reachable:
            _log.warning("auth_database_unreachable", error=str(error))
        elif error is None and not self._reachable:
            _log.info("auth_database_reachable")
        self._reachable = error is None


def _unknown() -> InvalidCredential:
    return InvalidCredential("this token is unknown; check it, or ask an administrator for a new one")
