"""Console sessions and sign-in links; the database stores only digests."""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Executable, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from ollama_router_server.storage.audit_log import Actor, AuditEntry, insert_entry
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.identities import Role, User
from ollama_router_server.storage.identity_rows import require_user
from ollama_router_server.storage.schema import console_claims, console_sessions, tokens, users
from ollama_router_server.system import Clock, random_bytes

__all__ = ["ConsoleSessions", "OpenSession", "StoredSession"]

_SEEN_EVERY = 60.0  # seconds between updates of `seen_at`
_MOST_OF_USER = 20


class StoredSession(Struct, frozen=True, kw_only=True):
    """An open session; times are seconds since 1970."""

    user_id: int
    token_id: int
    role: Role
    created_at: float
    seen_at: float


class OpenSession(Struct, frozen=True, kw_only=True):
    """A session as shown to admins: `id` names it but opens nothing; the session ends with the token named `token`."""

    id: str
    method: str
    token: str
    created_at: float
    seen_at: float


class ConsoleSessions:
    """Sessions of one database.

    Args:
        database: stores the sessions.
        clock: provides the times of rows.
        idle: seconds without use after which a session ends.
        longest: seconds after which a session ends in any case.
    """

    def __init__(self, database: Database, *, clock: Clock, idle: float, longest: float) -> None:
        self._database = database
        self._clock = clock
        self._idle = idle
        self._longest = longest

    async def open(self, user: User, method: str) -> str:
        """Open a session; return the secret for the cookie, which is not stored.

        Delete the user's oldest sessions beyond 20, and the expired sessions of all users.
        """
        secret, now = random_bytes(32).hex(), self._clock.wall()
        row = {
            "digest": _digest(secret),
            "user_id": user.id,
            "token_id": user.token_id,
            "role": user.role,
            "method": method,
            "created_at": now,
            "seen_at": now,
        }
        await self._database.write(_open, row, idle_since=now - self._idle, begun_before=now - self._longest)
        return secret

    async def find(self, secret: str) -> StoredSession | None:
        """Find the session of a cookie, if it is open; update its `seen_at` at most once a minute."""
        now, digest = self._clock.wall(), _digest(secret)
        found = await self._database.read(_find, digest)
        if found is None or now - found.seen_at > self._idle or now - found.created_at > self._longest:
            return None
        if now - found.seen_at > _SEEN_EVERY:
            noted = update(console_sessions).where(console_sessions.c.digest == digest).values(seen_at=now)
            await self._database.write(_execute, noted)
        return found

    async def close(self, secret: str) -> None:
        """End one session."""
        ours = console_sessions.c.digest == _digest(secret)
        await self._database.write(_execute, delete(console_sessions).where(ours))

    async def list(self, user: str) -> tuple[OpenSession, ...]:
        """List the open sessions of a user, newest first.

        Raises:
            UnknownUser: the user does not exist.
        """
        now = self._clock.wall()
        return await self._database.read(_list, user, idle_since=now - self._idle, begun_before=now - self._longest)

    async def end(self, user: str, *, by: Actor, only: str | None = None) -> int:
        """End a user's sessions and unused links, or only the session with the id `only`.

        Returns:
            How many sessions were open; expired ones do not count.

        Raises:
            UnknownUser: the user does not exist.
        """
        now = self._clock.wall()
        entry = AuditEntry(at=now, actor=by, action="user.sign_out", subject=user)
        moments = {"idle_since": now - self._idle, "begun_before": now - self._longest}
        return await self._database.write(_end, user, entry, only, **moments)

    async def invite(self, user: str, *, seconds: float, by: Actor | None = None) -> str:
        """Create a link that opens one session as this user, once, within `seconds`; return its secret.

        `by` is the author, for the audit trail.

        Raises:
            UnknownUser: the user does not exist.
        """
        secret, now = random_bytes(32).hex(), self._clock.wall()
        entry = None if by is None else AuditEntry(at=now, actor=by, action="user.invite", subject=user)
        await self._database.write(_invite, user, _digest(secret), now=now, expires_at=now + seconds, entry=entry)
        return secret

    async def withdraw(self, user: str, *, by: Actor) -> int:
        """End all unused links of a user; return how many.

        Raises:
            UnknownUser: the user does not exist.
        """
        entry = AuditEntry(at=self._clock.wall(), actor=by, action="user.uninvite", subject=user)
        return await self._database.write(_withdraw, user, entry)

    async def claim(self, secret: str) -> str | None:
        """Use up a link; return its user. None if the link is invalid, used or expired, or the user is deactivated."""
        return await self._database.write(_claim, _digest(secret), self._clock.wall())

    async def first_token(self, user: User) -> int:
        """Return the id of a user's oldest token, the token of a link's session; 0 if there is none."""
        oldest = select(func.coalesce(func.min(tokens.c.id), 0)).where(tokens.c.user_id == user.id)
        return await self._database.read(lambda connection: int(connection.execute(oldest).scalar_one()))


def _execute(connection: Connection, statement: Executable) -> None:
    connection.execute(statement)


def _open(connection: Connection, row: dict[str, Any], *, idle_since: float, begun_before: float) -> None:
    columns = console_sessions.c
    over = (columns.seen_at < idle_since) | (columns.created_at < begun_before)
    connection.execute(delete(console_sessions).where(over))
    newest = select(columns.digest).where(columns.user_id == row["user_id"]).order_by(columns.created_at.desc())
    kept = connection.execute(newest.limit(_MOST_OF_USER - 1)).scalars().all()
    too_many = (columns.user_id == row["user_id"]) & columns.digest.not_in(kept)
    connection.execute(delete(console_sessions).where(too_many))
    connection.execute(insert(console_sessions).values(row))


def _find(connection: Connection, digest: str) -> StoredSession | None:
    columns = console_sessions.c
    query = select(columns.user_id, columns.token_id, columns.role, columns.created_at, columns.seen_at)
    row = connection.execute(query.where(columns.digest == digest)).mappings().one_or_none()
    return None if row is None else StoredSession(**row)


def _list(connection: Connection, user: str, *, idle_since: float, begun_before: float) -> tuple[OpenSession, ...]:
    columns = console_sessions.c
    query = (
        select(columns.digest, columns.method, tokens.c.name, columns.created_at, columns.seen_at)
        .join(tokens, tokens.c.id == columns.token_id)
        .where(columns.user_id == require_user(connection, user).id)
        .where(columns.seen_at >= idle_since, columns.created_at >= begun_before)
        .order_by(columns.created_at.desc())
    )
    return tuple(
        OpenSession(id=_name_of(digest), method=method, token=token, created_at=created_at, seen_at=seen_at)
        for digest, method, token, created_at, seen_at in connection.execute(query)
    )


def _end(
    connection: Connection, user: str, entry: AuditEntry, only: str | None, *, idle_since: float, begun_before: float
) -> int:
    columns, user_id = console_sessions.c, require_user(connection, user).id
    theirs = columns.user_id == user_id
    still_open = (columns.seen_at >= idle_since) & (columns.created_at >= begun_before)
    digests = connection.execute(select(columns.digest).where(theirs, still_open)).scalars().all()
    chosen = [digest for digest in digests if only is None or _name_of(digest) == only]
    connection.execute(delete(console_sessions).where(theirs if only is None else columns.digest.in_(chosen)))
    links = 0 if only is not None else _end_links(connection, user_id, entry.at)
    if chosen or links:
        insert_entry(connection, replace(entry, detail={"sessions": len(chosen)} | ({"links": links} if links else {})))
    return len(chosen)


def _end_links(connection: Connection, user_id: int, now: float) -> int:
    """Delete a user's unused links, which would sign the user in again."""
    columns = console_claims.c
    unused = delete(console_claims).where(columns.user_id == user_id, columns.expires_at >= now)
    return connection.execute(unused).rowcount


def _name_of(digest: str) -> str:
    """Return the public id of a session, from which the digest cannot be derived."""
    return _digest(f"name of {digest}")[:12]


def _invite(
    connection: Connection, user: str, digest: str, *, now: float, expires_at: float, entry: AuditEntry | None
) -> None:
    connection.execute(delete(console_claims).where(console_claims.c.expires_at < now))
    user_id = require_user(connection, user).id
    connection.execute(insert(console_claims).values({"digest": digest, "user_id": user_id, "expires_at": expires_at}))
    if entry is not None:
        insert_entry(connection, entry)


def _withdraw(connection: Connection, user: str, entry: AuditEntry) -> int:
    theirs = console_claims.c.user_id == require_user(connection, user).id
    insert_entry(connection, entry)
    return connection.execute(delete(console_claims).where(theirs)).rowcount


def _claim(connection: Connection, digest: str, now: float) -> str | None:
    columns = console_claims.c
    active = select(users.c.id).where(users.c.active)
    used = delete(console_claims).where(
        columns.digest == digest, columns.expires_at >= now, columns.user_id.in_(active)
    )
    user_id = connection.execute(used.returning(columns.user_id)).scalar_one_or_none()
    return connection.execute(select(users.c.name).where(users.c.id == user_id)).scalar_one_or_none()


def _digest(secret: str) -> str:
    """Hash a secret; an unsalted hash is enough for 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
