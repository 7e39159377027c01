"""The store shared by routers on several machines: Redis or Valkey, through one script."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from importlib import resources
from typing import Any, NamedTuple, TypeVar

import msgspec
from hiredis import pack_command
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from ollama_router_core.config.settings import CoordinationSettings
from ollama_router_core.coordination.days import DAYS_KEPT
from ollama_router_core.errors import ConfigError
from ollama_router_core.fleet.summary import FORMAT
from ollama_router_server.system import random_bytes

__all__ = ["Answer", "Operation", "RedisStore", "StoreAway"]

_SCRIPT = resources.files("ollama_router_server.coordination").joinpath("exchange.lua").read_text(encoding="utf-8")
_DIGEST = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_PATIENCE_MS = 1500
"""Milliseconds that the queue waits for a silent member."""
_SETTLE_MS = 2000
"""Milliseconds that an empty store waits for a first member with state; by then, all members have tried to join."""
_RENEWAL_MS = 100
"""Minimum milliseconds between lease renewals of a member that does not look."""
_SEEN_BY_ALL = 3
"""Seconds within which a change of a user's tokens is in the database and read by every member."""
_GRACE_ROUNDS = 3
_SOUND_SECONDS = 0.1
"""Seconds after its last answer for which a connection is assumed to be open."""
_MALFORMED = (
    "coordination.url must look like redis://USER:PASSWORD@HOST:6379/0 (rediss:// for TLS, unix:// for a socket; "
    "a / in a password is written %2F), and an entry of coordination.sentinels like HOST:26379"
)

_UNKNOWN_PARAMETER = (
    "coordination.url has a parameter behind its ? that the client library redis does not take; "
    "ssl_ca_certs, ssl_cert_reqs and health_check_interval are among those that it does"
)

Result = TypeVar("Result")
Operation = Sequence[str | float]
"""A function of the script and its arguments."""


class StoreAway(Exception):
    """The store did not answer in time, or its answer is invalid."""


class Answer(NamedTuple):
    """The result of an exchange; `body` as the script writes it. `ok` is False if the member has to join again."""

    ok: bool
    body: dict[str, Any]


class RedisStore:
    """One member's connection to the store: one numbered call at a time, each with a timeout.

    The script records what it counted under the last number, and is passed the last number that was answered.

    Args:
        url: the store's URL.
        settings: the other coordination settings.
        member: this member's unique name.

    Raises:
        ConfigError: the URL or a Sentinel address is invalid, or the URL has an unknown parameter. The message repeats
            none of them, since they may contain a password.
    """

    def __init__(self, url: str, settings: CoordinationSettings, member: str) -> None:
        self._member = member
        self._prefix = f"orouter:{{{settings.fleet}}}:"
        self._timeout = settings.timeout
        self._connect_timeout = max(settings.timeout, 1.0)
        self._sentinels: list[Any] = []
        try:
            _check_parameters(url)
            self._client: Any = self._make_client(url, settings)
        except ValueError:
            raise ConfigError(_MALFORMED) from None
        except TypeError:
            raise ConfigError(_UNKNOWN_PARAMETER) from None
        lease = int(settings.heartbeat * 2 * 1000)
        terms = {"lease": lease, "renewal": _RENEWAL_MS, "patience": _PATIENCE_MS, "settle": _SETTLE_MS}
        terms |= {"days_kept": int(DAYS_KEPT), "seen_by_all": _SEEN_BY_ALL}
        self._terms = msgspec.json.encode({**terms, "format": FORMAT})
        self._connection: Any = None
        self._is_cluster = isinstance(self._client, RedisCluster)  # cached: the check of a protocol is slow
        self._sound_until = float("-inf")
        self._process = random_bytes(8).hex()  # numbers restart with each process
        self._number = self._answered = 0

    def _make_client(self, url: str, settings: CoordinationSettings) -> Any:
        options: dict[str, Any] = {"socket_connect_timeout": self._connect_timeout, "socket_timeout": None}
        options["retry"] = Retry(NoBackoff(), 0)
        if settings.sentinels:
            addresses = [
                (host, int(port)) for host, _, port in (address.rpartition(":") for address in settings.sentinels)
            ]
            sentinels: Any = Sentinel(addresses, **options)  # type: ignore[no-untyped-call]  # so in the library
            self._sentinels = sentinels.sentinels
            own = {name: value for name, value in parse_url(url).items() if name not in {"host", "port", "path"}}
            own["ssl"] = own.pop("connection_class", None) is SSLConnection
            return sentinels.master_for(settings.sentinel_service, **options, **own)
        if settings.cluster:
            return RedisCluster.from_url(url, socket_connect_timeout=self._connect_timeout)
        return Redis.from_url(url, **options)

    async def join(self, operations: Sequence[Operation], heard: str) -> Answer:
        """Join or rejoin; what this member held before is void.

        Counts since the last reply are void, too: send them again.

        Raises:
            StoreAway: the store is not reachable within a second.
        """
        return await self._run("", operations, look=True, heard=heard, seconds=self._connect_timeout)

    async def exchange(self, fence: str, operations: Sequence[Operation], *, look: bool, heard: str) -> Answer:
        """Carry out operations and, if `look`, read the others' state.

        Raises:
            StoreAway: no answer within the configured timeout.
        """
        return await self._run(fence, operations, look=look, heard=heard, seconds=self._timeout)

    async def _run(
        self, fence: str, operations: Sequence[Operation], *, look: bool, heard: str, seconds: float
    ) -> Answer:
        carried = msgspec.json.encode(operations)
        self._number += 1
        numbers = [self._process, self._number, self._answered]
        arguments = [self._member, fence, self._terms, carried, "1" if look else "0", heard, *numbers]
        try:
            body = msgspec.json.decode(await _within(seconds, self._call(arguments)))
        except TimeoutError:
            raise StoreAway(f"no answer within {seconds:g} s") from None
        except (RedisError, OSError, ValueError) as error:
            raise StoreAway(str(error) or type(error).__name__) from None
        self._answered = self._number
        return Answer(bool(body["ok"]), body)

    async def _call(self, arguments: Sequence[Any]) -> bytes:
        try:
            return await self._command("EVALSHA", _DIGEST, 1, self._prefix, *arguments)
        except NoScriptError:
            return await self._command("EVAL", _SCRIPT, 1, self._prefix, *arguments)

    async def _command(self, *words: Any) -> bytes:
        """Send a command on this member's own connection; one from the pool per call costs half as much again."""
        found: bytes
        if self._is_cluster:
            found = await self._client.execute_command(*words)
            return found
        connection = await self._sound_connection()
        await connection.send_packed_command(pack_command(words))
        found = await connection.read_response()
        self._sound_until = asyncio.get_running_loop().time() + _SOUND_SECONDS
        return found

    async def _sound_connection(self) -> Any:
        """Return an open connection; skip the check if it has just answered."""
        pool = self._client.connection_pool
        if self._connection is None:
            self._connection = await pool.get_connection()
            return self._connection
        if _was_closed(self._connection):
            await self._connection.disconnect(nowait=True)
        if not self._connection.is_connected or asyncio.get_running_loop().time() > self._sound_until:
            await pool.ensure_connection(self._connection)
        return self._connection

    async def stirrings(self) -> AsyncIterator[None]:
        """Yield when a slot is free for a request waiting here, or another member has changed a drain.

        After one, the next comes once this member has looked. Yields nothing on a Cluster, whose client cannot
        subscribe.

        Raises:
            StoreAway: the connection was lost.
        """
        if self._is_cluster:
            return
        subscription = self._client.pubsub()
        try:
            await subscription.subscribe(f"{self._prefix}stirred:{self._member}", f"{self._prefix}drained")
            async for message in subscription.listen():
                if message["type"] == "message" and message["data"] != self._member.encode():
                    yield
        except (RedisError, OSError) as error:
            raise StoreAway(str(error) or type(error).__name__) from None
        finally:
            await subscription.aclose()

    async def ping(self) -> None:
        """Check that the store is reachable; writes nothing.

        Raises:
            StoreAway: it is unreachable, or rejects the credentials.
        """
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._client.ping()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreAway(str(error) or type(error).__name__) from None

    async def aclose(self) -> None:
        """Close the connections."""
        for client in (self._client, *self._sentinels):
            await client.aclose()


def _check_parameters(url: str) -> None:
    """Create a connection without opening it, since the library validates parameters on creation.

    Raises:
        ValueError: the URL or a parameter's value is invalid.
        TypeError: a parameter is unknown.
    """
    found: dict[str, Any] = {name: value for name, value in parse_url(url).items() if name != "max_connections"}
    found.pop("connection_class", Connection)(**found)


def _was_closed(connection: Any) -> bool:
    """Return whether the peer is known to have closed a connection.

    The library reports only whether this side has (`is_connected`), so the private stream is checked. If a release of
    the library stores the stream elsewhere, the next command detects the closed connection.
    """
    stream = getattr(connection, "_reader", None)
    return stream is not None and (stream.at_eof() or stream.exception() is not None)


async def _within(seconds: float, call: Coroutine[Any, Any, Result]) -> Result:
    """Await a call with a timeout but without a task of its own, which would cost as much as the rest of the client.

    Raises:
        TimeoutError: the time and a few loop iterations have passed; if this process was late, the answer has arrived.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as deadline:

        def late(rounds: int) -> None:
            if done:
                return
            if rounds:
                loop.call_soon(late, rounds - 1)
            else:
                deadline.reschedule(loop.time())

        done, timer = False, loop.call_later(seconds, late, _GRACE_ROUNDS)
        try:
            return await call
        finally:
            done = True
            timer.cancel()
