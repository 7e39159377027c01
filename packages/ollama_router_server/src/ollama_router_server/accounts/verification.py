"""bcrypt verification of unknown credentials: off the event loop, bounded, and run once per credential."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ollama_router_core.access.tokens import lookup_of, verify_token
from ollama_router_core.errors import Overloaded
from ollama_router_server.storage.identities import KnownToken, User

__all__ = ["Verification", "Verifier"]

_THREADS = 2
_PER_LOOKUP = 2  # per address: a public part must not suffice to occupy every thread, or to lock out its owner

Verify = Callable[[str], Coroutine[Any, Any, KnownToken | None]]


class Verification:
    """An unknown credential; awaiting it verifies the credential and returns its user.

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


class Verifier:
    """A few threads that run bcrypt, one run for all requests with the same credential.

    Args:
        max_waiting: credentials being verified or waiting for it; further ones are rejected.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="bcrypt")
        self._flights: dict[str, asyncio.Task[KnownToken | None]] = {}
        self._asking: Counter[tuple[str, str | None]] = Counter()  # runs by public part and address
        self.verifications = 0
        """The number of bcrypt runs."""

    async def once(self, credential: str, address: str | None, verify: Verify) -> KnownToken | None:
        """Return the result of `verify`, which runs once for all requests with a credential.

        Raises:
            Overloaded: too many credentials are being verified.
        """
        flight = self._flights.get(credential)
        if flight is None:
            origin = (lookup_of(credential), address)
            self._make_room(origin)
            flight = asyncio.create_task(verify(credential))
            self._flights[credential] = flight
            self._asking[origin] += 1
            flight.add_done_callback(lambda _: self._landed(credential, origin))
        return await asyncio.shield(flight)  # a client that disconnects must not fail the other requests

    async def fits(self, credential: str, digest: str) -> bool:
        """Run bcrypt in a thread."""
        self.verifications += 1
        return await asyncio.get_running_loop().run_in_executor(self._pool, verify_token, credential, digest)

    async def aclose(self) -> None:
        """Cancel verifications in progress."""
        flights = tuple(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _landed(self, credential: str, origin: tuple[str, str | None]) -> None:
        self._flights.pop(credential, None)
        self._asking[origin] -= 1
        if not self._asking[origin]:
            del self._asking[origin]

    def _make_room(self, origin: tuple[str, str | None]) -> None:
        if self._asking[origin] >= _PER_LOOKUP or len(self._flights) >= self._max_waiting:
            raise Overloaded("too many tokens are being verified; try again shortly", retry_after=1.0)
