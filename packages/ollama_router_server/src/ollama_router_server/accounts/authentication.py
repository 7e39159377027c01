"""Authentication: from header fields to a user, without waiting where possible.

The order keeps junk cheap: exactly one well-formed credential; a cached result; a public lookup that belongs to a
token, and its checksum; the token's stored proof, which decides for and against; only for tokens that have none yet
bcrypt, off the event loop, in a few threads with a bounded queue, once for all requests that wait for the same
credential.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from hmac import compare_digest
from typing import Any

import structlog

from ollama_router_core.access.tokens import (
    REJECTED,
    VerifiedTokens,
    check_format,
    lookup_of,
    read_credential,
    verify_token,
)
from ollama_router_core.coordination import Coordination, TokenVerified
from ollama_router_core.errors import InvalidCredential, Overloaded, StorageUnavailable, UserInactive
from ollama_router_server.storage.identities import Identities, KnownToken, User
from ollama_router_server.storage.users import UserStore
from ollama_router_server.system import Clock

__all__ = ["Authenticator", "Headers", "User", "Verification"]

Headers = Sequence[tuple[bytes, bytes]]

_RELOAD_AFTER = 60.0  # seconds; for changes made by hand, past the epoch
_NOTE_USE_AFTER = 30.0  # seconds between writes of last-used times
_STORE_PROOFS_AFTER = 0.2  # seconds in which proofs of several tokens gather
_RETRY_PROOFS_AFTER = 5.0  # seconds after which a database that took none is asked again
_PER_LOOKUP = 2  # of one address: a public part must not be enough to occupy every thread, or to keep its owner out

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Directory:
    """`Identities`, indexed by the two keys that they are looked up by."""

    epoch: int
    by_lookup: Mapping[str, tuple[KnownToken, ...]]
    by_token: Mapping[int, KnownToken]


def _index(identities: Identities) -> _Directory:
    by_lookup: dict[str, tuple[KnownToken, ...]] = {}
    for known in identities.tokens:
        by_lookup[known.lookup] = (*by_lookup.get(known.lookup, ()), known)
    by_token = {known.user.token_id: known for known in identities.tokens}
    return _Directory(identities.epoch, by_lookup, by_token)


def _with_proofs(directory: _Directory, proven: Mapping[int, KnownToken]) -> _Directory:
    """Add proofs that the database has not shown yet, where the digests still stand."""
    by_lookup, by_token = dict(directory.by_lookup), dict(directory.by_token)
    for token_id, source in proven.items():
        known = by_token.get(token_id)
        if known is None or known.digest != source.digest:
            continue
        by_token[token_id] = replace(known, proof=source.proof)
        sharing = by_lookup[known.lookup]
        by_lookup[known.lookup] = tuple(by_token[each.user.token_id] for each in sharing)
    return replace(directory, by_lookup=by_lookup, by_token=by_token)


def _next_expiry(directory: _Directory, after: float) -> float:
    """When the next user's access ends after a moment, both in seconds since 1970; infinity for never."""
    ends = (known.user.grants.expires_at for known in directory.by_token.values())
    return min((end for end in ends if end is not None and end > after), default=float("inf"))


class Verification:
    """A credential that nothing is known of yet; awaiting this verifies it and gives its user.

    Raises, when awaited:
        Overloaded: too many credentials are being verified.
        InvalidCredential, UserInactive: the request is refused.
    """

    __slots__ = ("_address", "_credential", "_verify")

    def __init__(
        self, verify: Callable[[str, str | None], Coroutine[Any, Any, User]], credential: str, address: str | None
    ) -> None:
        self._verify = verify
        self._credential = credential
        self._address = address

    def __await__(self) -> Generator[Any, Any, User]:
        """Verify the credential."""
        return self._verify(self._credential, self._address).__await__()


class Authenticator:
    """Every user and token as of the last `auth_epoch` seen.

    Call `start` once, then `authenticate` for each request. Everything runs on one event loop; only bcrypt uses
    threads.

    Args:
        users: the store of users.
        clock: for ages.
        workers: the other workers, who are told what was verified here.
        poll_interval: seconds between reads of the epoch, which is how long a revocation takes to apply.
        stale_after: seconds without a successful read after which every request is rejected.
        threads: concurrent bcrypt runs.
        max_waiting: credentials being verified or waiting for it; further ones are rejected.
    """

    def __init__(
        self,
        users: UserStore,
        *,
        clock: Clock,
        workers: Coordination,
        poll_interval: float = 0.25,
        stale_after: float = 30.0,
        threads: int = 2,
        max_waiting: int = 64,
    ) -> None:
        self._users = users
        self._clock = clock
        self._poll_interval = poll_interval
        self._stale_after = stale_after
        self._max_waiting = max_waiting
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt")
        self._workers = workers
        self._verified: VerifiedTokens[KnownToken] = VerifiedTokens(workers.secret)
        self._directory = _Directory(-1, {}, {})
        self._confirmed = self._loaded = float("-inf")
        self._flights: dict[str, asyncio.Task[KnownToken | None]] = {}
        self._asking: Counter[tuple[str, str | None]] = Counter()  # flights by public part and address
        self._used: set[int] = set()
        self._unstored: dict[int, KnownToken] = {}  # by token: confirmed by bcrypt, proof not in the database yet
        self._proven = asyncio.Event()
        self._refreshing = asyncio.Lock()  # an older result must not overwrite a newer one
        self._callbacks: list[Callable[[], None]] = []
        self._expiries_told = clock.wall()
        self._next_expiry = float("inf")
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._reachable = True
        self.verifications = 0
        """How often bcrypt was asked."""

    async def start(self) -> None:
        """Load the users and begin to poll for changes.

        Raises:
            StorageUnavailable: the database cannot be read.
        """
        await self.refresh()
        work = (self._watch(), self._note_uses(), self._store_proofs())
        self._tasks = tuple(asyncio.create_task(each) for each in work)

    async def aclose(self) -> None:
        """Stop polling, end verifications, write pending proofs and last-used times."""
        for task in (*self._tasks, *self._flights.values()):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._flights.values(), return_exceptions=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        await self._write_proofs()
        await self._write_uses()

    def authenticate(self, headers: Headers, address: str | None = None) -> User | Verification:
        """The user, or what has to be awaited where only bcrypt can say; `address` is the client's.

        Raises:
            MissingCredential, AmbiguousCredential, InvalidCredential, UserInactive: the request is refused.
            StorageUnavailable: users were not confirmed for too long.
        """
        credential = read_credential(headers)
        known = self._find(credential)
        return Verification(self._verify, credential, address) if known is None else self._admit(known)

    def hear(self, news: TokenVerified) -> None:
        """Another worker has verified a credential: bcrypt need not be asked again for the same digest."""
        known = self._directory.by_token.get(news.token_id)
        if known is not None and compare_digest(self._verified.proof(news.key, known.digest), news.proof):
            now = self._clock.monotonic()
            self._verified.accept_key(news.key, known, epoch=self._directory.epoch, now=now)

    def is_still_valid(self, user: User) -> bool:
        """Tell whether a user's credential is still valid; asked repeatedly while an answer streams."""
        known = self._directory.by_token.get(user.token_id)
        if known is None or not known.user.active:
            return False
        expires_at = known.user.grants.expires_at
        return expires_at is None or self._clock.wall() < expires_at

    def user_of_token(self, token_id: int) -> User | None:
        """Return the active user who has this token, None if there is none (any more)."""
        known = self._directory.by_token.get(token_id)
        return known.user if known is not None and known.user.active else None

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after every change of users or tokens, and when one expires; return a function that ends it."""
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
        if now - self._confirmed > self._stale_after:
            raise StorageUnavailable("users cannot be verified: the database does not respond", retry_after=5.0)
        known = self._verified.find(credential, epoch=self._directory.epoch, now=now)
        if known is REJECTED:
            raise _unknown()
        if known is not None:
            return known
        if (proven := self._find_proven(credential)) is not None:
            self._verified.accept(credential, proven, epoch=self._directory.epoch, now=now)
            return proven
        if not self._unproven(credential):
            raise _unknown()
        return None

    def _find_proven(self, credential: str) -> KnownToken | None:
        """Return the token whose proof this credential fits."""
        prover = self._users.prover
        if prover is None:
            return None
        for known in self._candidates(credential):
            if known.proof is not None and prover.fits(credential, known.digest, known.proof):
                return known
        return None

    def _unproven(self, credential: str) -> tuple[KnownToken, ...]:
        """Return the tokens of which only bcrypt can say whether this is their credential."""
        return tuple(known for known in self._candidates(credential) if known.proof is None)

    def _candidates(self, credential: str) -> tuple[KnownToken, ...]:
        """Return the tokens that a credential could be; only imported ones may lack our checksum."""
        sharing = self._directory.by_lookup.get(lookup_of(credential), ())
        if not sharing or check_format(credential):
            return sharing
        return tuple(known for known in sharing if known.imported)

    def _admit(self, known: KnownToken) -> User:
        user = known.user
        if not user.active:
            raise UserInactive(f"user {user.name} is deactivated; an administrator can activate it")
        self._used.add(user.token_id)
        return user

    async def _verify(self, credential: str, address: str | None) -> User:
        flight = self._flights.get(credential)
        if flight is None:
            origin = (lookup_of(credential), address)
            self._make_room(origin)
            flight = asyncio.create_task(self._ask_bcrypt(credential, self._unproven(credential)))
            self._flights[credential] = flight
            self._asking[origin] += 1
            flight.add_done_callback(lambda _: self._landed(credential, origin))
        known = await asyncio.shield(flight)  # a client that disconnects must not fail the others that wait
        if known is None:
            raise _unknown()
        return self._admit(known)

    def _landed(self, credential: str, origin: tuple[str, str | None]) -> None:
        self._flights.pop(credential, None)
        self._asking[origin] -= 1
        if not self._asking[origin]:
            del self._asking[origin]

    def _make_room(self, origin: tuple[str, str | None]) -> None:
        if self._asking[origin] >= _PER_LOOKUP or len(self._flights) >= self._max_waiting:
            raise Overloaded("too many tokens are being verified; try again shortly", retry_after=1.0)

    async def _ask_bcrypt(self, credential: str, candidates: tuple[KnownToken, ...]) -> KnownToken | None:
        epoch = self._directory.epoch
        loop = asyncio.get_running_loop()
        for candidate in candidates:
            self.verifications += 1
            if await loop.run_in_executor(self._pool, verify_token, credential, candidate.digest):
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
        """Keep what bcrypt confirmed, here and in the database, so that it is asked once in a token's life."""
        if self._users.prover is None:
            return verified
        proven = replace(verified, proof=self._users.prover.prove(credential, verified.digest))
        self._unstored[proven.user.token_id] = proven
        self._directory = _with_proofs(self._directory, self._unstored)
        self._proven.set()
        return proven

    def _renew(self, known: KnownToken) -> KnownToken | None:
        current = self._directory.by_token.get(known.user.token_id)
        return current if current is not None and current.digest == known.digest else None

    async def _load(self) -> None:
        now = self._clock.monotonic()
        directory = _with_proofs(_index(await self._users.identities()), self._unstored)
        changed = directory != self._directory
        self._directory = directory
        self._loaded = now
        self._next_expiry = _next_expiry(directory, self._expiries_told)
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
            self._tell_expired()

    def _tell_expired(self) -> None:
        """Call back when somebody's access has expired, which is no change of any user."""
        wall = self._clock.wall()
        if wall >= self._next_expiry:
            self._expiries_told = wall
            self._next_expiry = _next_expiry(self._directory, wall)
            self._call_back()

    def _report(self, error: Exception | None) -> None:
        """Log the first failure and the recovery, not each of four reads per second."""
        if error is not None and self._reachable:
            _log.warning("auth_database_unreachable", error=str(error))
        elif error is None and not self._reachable:
            _log.info("auth_database_reachable")
        self._reachable = error is None

    async def _store_proofs(self) -> None:
        while True:
            await self._proven.wait()
            self._proven.clear()
            await asyncio.sleep(_STORE_PROOFS_AFTER)
            if not await self._write_proofs():
                await asyncio.sleep(_RETRY_PROOFS_AFTER)
                self._proven.set()

    async def _write_proofs(self) -> bool:
        """Write the proofs that wait; tell whether the database has taken them."""
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
        with suppress(StorageUnavailable):  # a convenience that must not fail a request
            await self._users.note_use(dict.fromkeys(used, self._clock.wall()))


def _unknown() -> InvalidCredential:
    return InvalidCredential("the token is not known here; check it, or ask an administrator for a new one")
