"""Rows of users, tokens and groups: what the stores of users and of groups both do with them."""

from __future__ import annotations

import difflib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_core.access.grants import Grants, InvalidGrants, grants_from_json, grants_to_json
from ollama_router_core.access.tokens import Token, lookup_of
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.identities import InvalidUserName, TokenInfo, UnknownGroup, UnknownUser
from ollama_router_server.storage.schema import auth_epoch, groups, tokens, users

__all__ = [
    "changed_grants",
    "check_name",
    "dump_grants",
    "identity_change",
    "insert_token",
    "load_grants",
    "require_group",
    "require_user",
    "token_infos",
]

_NAMES_SHOWN = 20


@asynccontextmanager
async def identity_change(database: Database) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that also increments the epoch, so that a process that polls it reads the change."""
    async with database.write() as connection:
        await connection.execute(update(auth_epoch).values(epoch=auth_epoch.c.epoch + 1))
        yield connection


def check_name(name: str) -> None:
    """Check that a name can be typed, printed and logged safely.

    Raises:
        InvalidUserName: it cannot.
    """
    if not 0 < len(name) <= 100 or not name.isprintable() or name != name.strip():
        raise InvalidUserName("a name has 1 to 100 printable characters and no white space at its ends")


async def require_user(connection: AsyncConnection, name: str) -> Row[Any]:
    """Read a user's row.

    Raises:
        UnknownUser: there is none; the text lists known names.
    """
    row = await _find(connection, users, name)
    if row is None:
        raise UnknownUser(f"no user is named {name!r}; {await _known(connection, users, name)}")
    return row


async def require_group(connection: AsyncConnection, name: str) -> Row[Any]:
    """Read a group's row.

    Raises:
        UnknownGroup: there is none; the text lists known names.
    """
    row = await _find(connection, groups, name)
    if row is None:
        raise UnknownGroup(f"no group is named {name!r}; {await _known(connection, groups, name)}")
    return row


async def _find(connection: AsyncConnection, table: Table, name: str) -> Row[Any] | None:
    return (await connection.execute(select(table).where(table.c.name == name))).one_or_none()


async def _known(connection: AsyncConnection, table: Table, name: str) -> str:
    names = (await connection.execute(select(table.c.name).order_by(table.c.name))).scalars().all()
    return _known_names(name, names, table.name)


def _known_names(name: str, names: Sequence[str], what: str) -> str:
    if not names:
        return f"there are no {what} yet"
    if len(names) <= _NAMES_SHOWN:
        return f"known: {', '.join(names)}"
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    shown = near + [known for known in names if known not in near][: _NAMES_SHOWN - len(near)]
    return f"known: {', '.join(shown)} and {len(names) - len(shown)} more"


@lru_cache(maxsize=1024)  # thousands of users have a handful of different grants
def load_grants(text: str) -> Grants:
    """Parse stored grants; text that this release cannot read (edited by hand, or newer) grants nothing."""
    try:
        return grants_from_json(json.loads(text))
    except (ValueError, InvalidGrants):
        return Grants(models=(), hosts=(), kinds=(), networks=())


def dump_grants(grants: Grants) -> str:
    """Serialise grants for storage."""
    return json.dumps(grants_to_json(grants), sort_keys=True)


def changed_grants(text: str, changes: Mapping[str, Any]) -> Grants:
    """Change some fields of stored grants; None unsets a field.

    Raises:
        InvalidGrants: the result is not valid.
    """
    return grants_from_json({**grants_to_json(load_grants(text)), **changes})


async def insert_token(
    connection: AsyncConnection, user_id: int, name: str, token: Token, digest: str, now: float
) -> int:
    """Store the digest of a token that we minted; return the token's id."""
    row = {
        "user_id": user_id,
        "name": name,
        "lookup": lookup_of(token.reveal()),
        "digest": digest,
        "imported": False,
        "created_at": now,
    }
    return int((await connection.execute(insert(tokens).values(row).returning(tokens.c.id))).scalar_one())


async def token_infos(connection: AsyncConnection, user_id: int | None = None) -> dict[int, tuple[TokenInfo, ...]]:
    """Read what may be shown of tokens, of one user or of all, by user id."""
    columns = tokens.c
    query = select(columns.user_id, columns.name, columns.lookup, columns.created_at, columns.last_used_at).order_by(
        columns.id
    )
    if user_id is not None:
        query = query.where(columns.user_id == user_id)
    infos: dict[int, tuple[TokenInfo, ...]] = {}
    for owner, name, lookup, created_at, last_used_at in await connection.execute(query):
        info = TokenInfo(name=name, lookup=lookup, created_at=created_at, last_used_at=last_used_at)
        infos[owner] = (*infos.get(owner, ()), info)
    return infos
