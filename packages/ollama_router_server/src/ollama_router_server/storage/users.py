"""Users and the digests of their tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from sqlalchemy import Row, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_core.access.grants import Grants
from ollama_router_core.access.token_proofs import TokenProver
from ollama_router_core.access.tokens import Token, hash_token, mint_token
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.dialect import insert_into
from ollama_router_server.storage.identities import (
    CreatedToken,
    DuplicateName,
    Identities,
    InvalidUserName,
    KnownToken,
    Role,
    TokenInfo,
    UnknownUser,
    User,
    UserChange,
    UserDetails,
    UserSummary,
)
from ollama_router_server.storage.identity_queries import read_epoch, read_grants, read_identities
from ollama_router_server.storage.identity_rows import (
    changed_grants,
    check_name,
    dump_grants,
    identity_change,
    insert_token,
    load_grants,
    require_group,
    require_user,
    token_infos,
)
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_stats import requests_by_user, usage_of_user
from ollama_router_server.storage.request_log import delete_rows_of_user, select_records
from ollama_router_server.storage.schema import (
    groups,
    memberships,
    token_proofs,
    token_usage,
    tokens,
    users,
)
from ollama_router_server.system import Clock, random_below, random_bytes

__all__ = [
    "DEFAULT_TOKEN_NAME",
    "CreatedToken",
    "DuplicateName",
    "Identities",
    "InvalidUserName",
    "KnownToken",
    "Role",
    "TokenInfo",
    "UnknownUser",
    "User",
    "UserChange",
    "UserDetails",
    "UserStore",
    "UserSummary",
]

DEFAULT_TOKEN_NAME = "default"  # noqa: S105 - the name of a token, not a token
_LAST_REQUESTS = 10


class UserStore:
    """Users of one database.

    Args:
        database: where they are kept.
        clock: for the times of rows.
        cost: bcrypt's cost for new digests; tests lower it.
        prover: makes and checks proofs of tokens; without, none are stored.
    """

    def __init__(self, database: Database, *, clock: Clock, cost: int = 12, prover: TokenProver | None = None) -> None:
        self._database = database
        self._clock = clock
        self._cost = cost
        self.prover = prover

    async def create(
        self, name: str, *, role: Role = "user", group: str | None = None, grants: Grants | None = None
    ) -> CreatedToken:
        """Add a user with one token.

        Raises:
            InvalidUserName: empty, over 100 characters, unprintable, or with white space at an end.
            DuplicateName: there is such a user.
            UnknownGroup: there is no such group.
        """
        check_name(name)
        _check_role(role)
        token, digest = await self._mint()
        now = self._clock.wall()
        row = {"name": name, "role": role, "active": True, "created_at": now, "updated_at": now}
        row["grants"] = dump_grants(grants or Grants())
        try:
            async with identity_change(self._database) as connection:
                created = await connection.execute(insert(users).values(row).returning(users.c.id))
                user_id = created.scalar_one()
                await _join_group(connection, user_id, group)
                await self._insert_token(connection, user_id, DEFAULT_TOKEN_NAME, token, digest)
        except IntegrityError:
            raise DuplicateName(f"there is a user named {name!r} already") from None
        return CreatedToken(user=name, role=role, token=token)

    async def count(self) -> int:
        """Count users."""
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(users))).scalar_one()

    async def list(self) -> tuple[UserSummary, ...]:
        """Return every user, by name."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(users).order_by(users.c.name))).all()
            infos = await token_infos(connection)
            counts = await requests_by_user(connection)
            names = await _groups_of_users(connection)
        return tuple(_summary(row, infos.get(row.id, ()), counts.get(row.name, 0), names.get(row.id)) for row in rows)

    async def show(self, name: str) -> UserDetails:
        """Return one user with totals and the last 10 requests, newest first.

        Raises:
            UnknownUser: no such user.
        """
        async with self._database.read() as connection:
            row = await require_user(connection, name)
            infos = await token_infos(connection, row.id)
            names = await _groups_of_users(connection)
            usage, mean_ms = await usage_of_user(connection, name)
            last = await select_records(connection, LogFilter(user=name), limit=_LAST_REQUESTS)
        return UserDetails(
            summary=_summary(row, infos.get(row.id, ()), usage.requests, names.get(row.id)),
            errors=usage.errors,
            mean_ms=mean_ms,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            last_requests=last,
        )

    async def change(self, name: str, change: UserChange) -> None:
        """Apply a change to a user, atomically.

        Raises:
            UnknownUser: no such user.
            UnknownGroup: no such group.
            InvalidGrants: the resulting grants are not valid.
        """
        if change.role is not None:
            _check_role(change.role)
        async with identity_change(self._database) as connection:
            row = await require_user(connection, name)
            values: dict[str, Any] = {"updated_at": self._clock.wall()}
            if change.role is not None:
                values["role"] = change.role
            if change.active is not None:
                values["active"] = change.active
            if change.grants:
                values["grants"] = dump_grants(changed_grants(row.grants, change.grants))
            if change.moves:
                await _join_group(connection, row.id, change.group)
            await connection.execute(update(users).where(users.c.id == row.id).values(values))

    async def activate(self, name: str) -> None:
        """Activate a user.

        Raises:
            UnknownUser: no such user.
        """
        await self.change(name, UserChange(active=True))

    async def deactivate(self, name: str) -> None:
        """Deactivate a user; tokens and log rows stay.

        Raises:
            UnknownUser: no such user.
        """
        await self.change(name, UserChange(active=False))

    async def grants(self, name: str) -> Grants:
        """Return what a user may do, including the grants of the user's group.

        Raises:
            UnknownUser: there is no user of this name; the text lists known names.
        """
        async with self._database.read() as connection:
            return await read_grants(connection, name)

    async def set_grants(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change some fields of a user's own grants, in JSON's types; None unsets a field.

        Raises:
            UnknownUser: no such user.
            InvalidGrants: the result is not valid; nothing was changed.
        """
        await self.change(name, UserChange(grants=changes))

    async def add_token(self, name: str, token_name: str) -> CreatedToken:
        """Add a token to a user.

        Raises:
            UnknownUser: no such user.
            InvalidUserName: the token's name breaks the rules for names.
            DuplicateName: the user has a token of this name.
        """
        check_name(token_name)
        token, digest = await self._mint()
        try:
            async with identity_change(self._database) as connection:
                row = await require_user(connection, name)
                await self._insert_token(connection, row.id, token_name, token, digest)
        except IntegrityError:
            raise DuplicateName(f"{name} has a token named {token_name!r} already") from None
        return CreatedToken(user=name, role=row.role, token=token)

    async def regenerate_token(self, name: str, *, token_name: str = DEFAULT_TOKEN_NAME) -> CreatedToken:
        """Replace a user's token of this name (the old one is revoked at once), or add one if there is none.

        Raises:
            UnknownUser: no such user.
            InvalidUserName: the token's name breaks the rules for names.
        """
        check_name(token_name)
        token, digest = await self._mint()
        async with identity_change(self._database) as connection:
            row = await require_user(connection, name)
            await connection.execute(delete(tokens).where(tokens.c.user_id == row.id, tokens.c.name == token_name))
            await self._insert_token(connection, row.id, token_name, token, digest)
        return CreatedToken(user=name, role=row.role, token=token)

    async def revoke_token(self, name: str, token_name: str) -> None:
        """Revoke one of a user's tokens.

        Raises:
            UnknownUser: no such user, or the user has no token of this name.
        """
        async with identity_change(self._database) as connection:
            row = await require_user(connection, name)
            infos = (await token_infos(connection, row.id)).get(row.id, ())
            if token_name not in {info.name for info in infos}:
                known = ", ".join(info.name for info in infos) or "none"
                raise UnknownUser(f"{name} has no token named {token_name!r}; known: {known}")
            await connection.execute(delete(tokens).where(tokens.c.user_id == row.id, tokens.c.name == token_name))

    async def delete(self, name: str) -> int:
        """Delete a user with tokens, counts and log rows; returns how many log rows were deleted.

        Raises:
            UnknownUser: no such user.
        """
        async with identity_change(self._database) as connection:
            row = await require_user(connection, name)
            await connection.execute(delete(users).where(users.c.id == row.id))
            await connection.execute(delete(token_usage).where(token_usage.c.user == name))
            return await delete_rows_of_user(connection, name)

    async def epoch(self) -> int:
        """Return the number that every change of users, groups or tokens increments."""
        async with self._database.read() as connection:
            return await read_epoch(connection)

    async def identities(self) -> Identities:
        """Return all tokens with their users, as of one epoch."""
        async with self._database.read() as connection:
            return await read_identities(connection, "" if self.prover is None else self.prover.key_id)

    async def note_use(self, last_used: Mapping[int, float]) -> None:
        """Store when tokens were last used, by token id, in seconds since 1970; the epoch stays as it is."""
        if not last_used:
            return
        statement = update(tokens).where(tokens.c.id == bindparam("token"))
        async with self._database.write() as connection:
            await connection.execute(
                statement.values(last_used_at=bindparam("used")),
                [{"token": token, "used": used} for token, used in last_used.items()],
            )

    async def store_proofs(self, proven: Sequence[KnownToken]) -> None:
        """Store the proofs of tokens that bcrypt has confirmed; the epoch stays as it is.

        Raises:
            StorageUnavailable: the database cannot take them; nothing was written.
        """
        if self.prover is None or not proven:
            return
        async with self._database.write() as connection:
            ids = [known.user.token_id for known in proven]
            standing = set((await connection.execute(select(tokens.c.id).where(tokens.c.id.in_(ids)))).scalars())
            for known in proven:
                if known.user.token_id in standing and known.proof is not None:
                    await self._store_proof(connection, known.user.token_id, known.digest, known.proof)

    async def _store_proof(self, connection: AsyncConnection, token_id: int, digest: str, proof: str) -> None:
        if self.prover is None:
            return
        row = {"token_id": token_id, "key_id": self.prover.key_id, "digest": digest, "proof": proof}
        statement = insert_into(self._database.backend, token_proofs).values(row)
        changed = {"digest": digest, "proof": proof}
        await connection.execute(statement.on_conflict_do_update(index_elements=["token_id", "key_id"], set_=changed))

    async def _insert_token(
        self, connection: AsyncConnection, user_id: int, name: str, token: Token, digest: str
    ) -> None:
        token_id = await insert_token(connection, user_id, name, token, digest, self._clock.wall())
        if self.prover is not None:
            await self._store_proof(connection, token_id, digest, self.prover.prove(token.reveal(), digest))

    async def _mint(self) -> tuple[Token, str]:
        token = mint_token(random_below)
        digest = await asyncio.to_thread(hash_token, token, salt=random_bytes(16), cost=self._cost)
        return token, digest


def _check_role(role: str) -> None:
    if role not in get_args(Role):
        raise ValueError(f"expected a role among {', '.join(get_args(Role))}, got {role!r}")


async def _join_group(connection: AsyncConnection, user_id: int, group: str | None) -> None:
    await connection.execute(delete(memberships).where(memberships.c.user_id == user_id))
    if group is not None:
        row = await require_group(connection, group)
        await connection.execute(insert(memberships).values(user_id=user_id, group_id=row.id))


async def _groups_of_users(connection: AsyncConnection) -> dict[int, str]:
    joined = select(memberships.c.user_id, groups.c.name).join(groups, groups.c.id == memberships.c.group_id)
    return {row.user_id: row.name for row in await connection.execute(joined)}


def _summary(row: Row[Any], infos: tuple[TokenInfo, ...], requests: int, group: str | None) -> UserSummary:
    return UserSummary(
        name=row.name,
        role=row.role,
        active=row.active,
        created_at=row.created_at,
        requests=requests,
        tokens=infos,
        group=group,
        own_grants=load_grants(row.grants),
    )
