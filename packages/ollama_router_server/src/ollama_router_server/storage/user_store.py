"""Users and the digests of their tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ollama_router_core.access.grants import Grants, grants_to_json
from ollama_router_core.access.token_proofs import TokenProver
from ollama_router_core.access.tokens import Token, hash_token, mint_token
from ollama_router_server.storage.audit_log import ROUTER, Actor, AuditAction, AuditEntry
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.identities import (
    CreatedToken,
    DuplicateName,
    Identities,
    KnownToken,
    Role,
    User,
    UserChange,
    UserDetails,
    UserFilter,
    UserPage,
    UserSummary,
)
from ollama_router_server.storage.identity_queries import (
    count_persons,
    read_epoch,
    read_grants,
    read_identities,
    read_person,
)
from ollama_router_server.storage.identity_rows import (
    check_name,
    check_role,
    dump_grants,
    identity_change,
    require_user,
)
from ollama_router_server.storage.recent_use import RecentUse, read_recent_use
from ollama_router_server.storage.schema import tokens, users
from ollama_router_server.storage.token_rows import delete_token, insert_proof, insert_proofs, insert_token
from ollama_router_server.storage.user_rows import (
    action_of,
    change_user,
    delete_user,
    join_group,
    read_details,
    read_page,
    read_summaries,
)
from ollama_router_server.system import Clock, random_below, random_bytes

__all__ = ["DEFAULT_TOKEN_NAME", "UserStore"]

DEFAULT_TOKEN_NAME = "default"  # noqa: S105 - the name of a token, not a token


class TooManyPersons(Exception):
    """The limit of users without tokens is reached; aborts the transaction."""


class UserStore:
    """Users of one database.

    Args:
        database: stores the users.
        clock: provides the times of rows.
        cost: bcrypt's cost for new digests; tests lower it.
        prover: creates and checks token proofs; without it, none are stored.
        actor: the author of changes, for the audit trail.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        cost: int = 12,
        prover: TokenProver | None = None,
        actor: Actor = ROUTER,
    ) -> None:
        self._database = database
        self._clock = clock
        self._cost = cost
        self._actor = actor
        self.prover = prover

    def by(self, actor: Actor) -> UserStore:
        """Return the same users with another author."""
        return UserStore(self._database, clock=self._clock, cost=self._cost, prover=self.prover, actor=actor)

    async def create(
        self, name: str, *, role: Role = "user", group: str | None = None, grants: Grants | None = None
    ) -> CreatedToken:
        """Add a user with one token.

        Raises:
            InvalidUserName: the name is empty, over 100 characters, unprintable, or has white space at an end.
            DuplicateName: the user exists.
            UnknownGroup: the group does not exist.
        """
        check_name(name)
        check_role(role)
        token, digest = await self._mint()

        def with_token(connection: Connection, user_id: int) -> None:
            self._insert_token(connection, user_id, DEFAULT_TOKEN_NAME, token, digest)

        await self._create(name, role, group, grants or Grants(), with_token)
        return CreatedToken(user=name, role=role, token=token)

    async def create_without_token(
        self, name: str, *, role: Role = "user", group: str | None = None, grants: Grants | None = None
    ) -> None:
        """Add a user who gets a token later, by an invitation.

        Raises:
            InvalidUserName, DuplicateName, UnknownGroup: see `create`.
        """
        check_name(name)
        check_role(role)
        await self._create(name, role, group, grants or Grants(), lambda *_: None)

    async def _create(
        self, name: str, role: Role, group: str | None, grants: Grants, more: Callable[[Connection, int], None]
    ) -> None:
        row = self._row(name, role, grants)
        entry = self._entry("user.create", name, role=role, group=group, grants=grants_to_json(grants))

        def add(connection: Connection) -> None:
            user_id = connection.execute(insert(users).values(row).returning(users.c.id)).scalar_one()
            join_group(connection, user_id, group)
            more(connection, user_id)

        try:
            await identity_change(self._database, entry, add)
        except IntegrityError:
            raise DuplicateName(f"there is a user named {name!r} already") from None

    def _row(self, name: str, role: Role, grants: Grants) -> dict[str, Any]:
        now = self._clock.wall()
        shown = {"name": name, "role": role, "active": True, "grants": dump_grants(grants)}
        return {**shown, "created_at": now, "updated_at": now}

    async def person(self, name: str) -> User | None:
        """Return a user on whose behalf another user's token speaks; None if unknown.

        Raises:
            StorageUnavailable: the database cannot be read.
        """
        return await self._database.read(read_person, name)

    async def add_person(self, name: str, *, group: str | None, spoken_for_by: str, most: int) -> bool:
        """Add a user without a token, unless there are `most`; return whether a user of this name exists now.

        Raises:
            InvalidUserName: the name breaks the rules for names.
            StorageUnavailable: the database cannot be written.
        """
        check_name(name)
        row = self._row(name, "user", Grants())
        entry = self._entry("user.create", name, role="user", group=group, spoken_for_by=spoken_for_by)

        def add(connection: Connection) -> None:
            if count_persons(connection) >= most:
                raise TooManyPersons
            user_id = connection.execute(insert(users).values(row).returning(users.c.id)).scalar_one()
            join_group(connection, user_id, group)

        try:
            await identity_change(self._database, entry, add)
        except IntegrityError:
            return True  # another process was faster
        except TooManyPersons:
            return False
        return True

    async def count(self) -> int:
        """Count users."""
        count = select(func.count()).select_from(users)
        return await self._database.read(lambda connection: connection.execute(count).scalar_one())

    async def list(self) -> tuple[UserSummary, ...]:
        """Return every user, by name."""
        return await self._database.read(read_summaries)

    async def page(self, chosen: UserFilter, *, after: str | None = None, limit: int = 200) -> UserPage:
        """Return at most `limit` users by name, after the name `after`."""
        return await self._database.read(read_page, chosen, after, limit)

    async def recent_use(self, names: Sequence[str] | None, *, today: int) -> dict[str, RecentUse]:
        """Return the recent use of these users, or of all if None; `today` is days since 1970-01-01."""
        return await self._database.read(lambda connection: read_recent_use(connection, names, today=today))

    async def show(self, name: str) -> UserDetails:
        """Return one user with totals and the last 10 requests, newest first.

        Raises:
            UnknownUser: the user does not exist.
        """
        return await self._database.read(read_details, name)

    async def change(self, name: str, change: UserChange) -> None:
        """Apply a change to a user, atomically.

        Raises:
            UnknownUser: the user does not exist.
            UnknownGroup: the group does not exist.
            InvalidGrants: the resulting grants are not valid.
        """
        if change.role is not None:
            check_role(change.role)
        entry = self._entry(action_of(change), name, **change.to_json())
        await identity_change(self._database, entry, change_user, name, change, entry.at)

    async def grants(self, name: str) -> Grants:
        """Return a user's grants combined with those of the user's group.

        Raises:
            UnknownUser: no user has this name; the message lists known names.
        """
        return await self._database.read(read_grants, name)

    async def set_grants(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change some fields of a user's own grants, given as JSON values; None unsets a field.

        Raises:
            UnknownUser: the user does not exist.
            InvalidGrants: the result is invalid; nothing was changed.
        """
        await self.change(name, UserChange(grants=changes))

    async def add_token(self, name: str, token_name: str, *, batch: bool = False) -> CreatedToken:
        """Add a token to a user; with `batch`, all requests with it have batch priority.

        Raises:
            UnknownUser: the user does not exist.
            InvalidUserName: the token's name breaks the rules for names.
            DuplicateName: the user has a token of this name.
        """
        check_name(token_name)
        token, digest = await self._mint()

        def add(connection: Connection) -> Role:
            row = require_user(connection, name)
            self._insert_token(connection, row.id, token_name, token, digest, batch=batch)
            return cast("Role", row.role)

        entry = self._entry("token.create", name, token=token_name, **({"batch": True} if batch else {}))
        try:
            role = await identity_change(self._database, entry, add)
        except IntegrityError:
            raise DuplicateName(f"{name} has a token named {token_name!r} already") from None
        return CreatedToken(user=name, role=role, token=token)

    async def regenerate_token(self, name: str, *, token_name: str = DEFAULT_TOKEN_NAME) -> CreatedToken:
        """Replace a user's token of this name, revoking the old one at once, or add one if there is none.

        The new token keeps the old one's priority.

        Raises:
            UnknownUser: the user does not exist.
            InvalidUserName: the token's name breaks the rules for names.
        """
        check_name(token_name)
        token, digest = await self._mint()

        def replace(connection: Connection) -> Role:
            row = require_user(connection, name)
            old = delete(tokens).where(tokens.c.user_id == row.id, tokens.c.name == token_name)
            batch = connection.execute(old.returning(tokens.c.batch)).scalar_one_or_none()
            self._insert_token(connection, row.id, token_name, token, digest, batch=bool(batch))
            return cast("Role", row.role)

        role = await identity_change(self._database, self._entry("token.replace", name, token=token_name), replace)
        return CreatedToken(user=name, role=role, token=token)

    async def revoke_token(self, name: str, token_name: str) -> None:
        """Revoke one of a user's tokens.

        Raises:
            UnknownUser: the user does not exist, or has no token of this name.
        """
        entry = self._entry("token.revoke", name, token=token_name)
        await identity_change(self._database, entry, delete_token, name, token_name)

    async def delete(self, name: str) -> int:
        """Delete a user with tokens, counts and log rows; return how many log rows were deleted.

        Raises:
            UnknownUser: the user does not exist.
        """
        return await identity_change(self._database, self._entry("user.delete", name), delete_user, name)

    async def epoch(self) -> int:
        """Return the epoch, which every change of users, groups or tokens increments."""
        return await self._database.read(read_epoch)

    async def identities(self) -> Identities:
        """Return all tokens with their users, at one epoch."""
        return await self._database.read(read_identities, "" if self.prover is None else self.prover.key_id)

    async def note_use(self, last_used: Mapping[int, float]) -> None:
        """Store the last use of tokens, by token id, in seconds since 1970, without a new epoch."""
        if not last_used:
            return
        statement = update(tokens).where(tokens.c.id == bindparam("token")).values(last_used_at=bindparam("used"))
        rows = [{"token": token, "used": used} for token, used in last_used.items()]
        await self._database.write(lambda connection: connection.execute(statement, rows))

    async def store_proofs(self, proven: Sequence[KnownToken]) -> None:
        """Store the proofs of tokens that bcrypt has confirmed, without a new epoch.

        Raises:
            StorageUnavailable: the database cannot write them; nothing was written.
        """
        if self.prover is not None and proven:
            await self._database.write(insert_proofs, self.prover.key_id, proven)

    def _entry(self, action: AuditAction, name: str, **detail: Any) -> AuditEntry:
        return AuditEntry(at=self._clock.wall(), actor=self._actor, action=action, subject=name, detail=detail)

    def _insert_token(
        self, connection: Connection, user_id: int, name: str, token: Token, digest: str, *, batch: bool = False
    ) -> None:
        token_id = insert_token(connection, user_id, name, token, digest, self._clock.wall(), batch=batch)
        if self.prover is not None:
            proof = self.prover.prove(token.reveal(), digest)
            insert_proof(connection, self.prover.key_id, token_id, digest, proof)

    async def _mint(self) -> tuple[Token, str]:
        token = mint_token(random_below)
        digest = await asyncio.to_thread(hash_token, token, salt=random_bytes(16), cost=self._cost)
        return token, digest
