"""Queries of authentication: tokens with their users and grants."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Select, and_, exists, func, select
from sqlalchemy.engine import Connection

from ollama_router_core.access.grants import Grants, combine_grants, grants_by_token
from ollama_router_server.storage.identities import Identities, KnownToken, User
from ollama_router_server.storage.identity_rows import load_grants, require_user
from ollama_router_server.storage.schema import auth_epoch, groups, memberships, token_proofs, tokens, users

__all__ = ["count_persons", "read_epoch", "read_grants", "read_identities", "read_person"]


def read_epoch(connection: Connection) -> int:
    """Read the epoch, which every change of users, groups or tokens increments."""
    return int(connection.execute(select(auth_epoch.c.epoch)).scalar_one())


def read_identities(connection: Connection, key_id: str) -> Identities:
    """Read all tokens with their users and their proofs under this key, at one epoch.

    Read the epoch first: if rows are newer than it, the next poll sees a new epoch and reads them again.
    """
    epoch = read_epoch(connection)
    rows = connection.execute(_tokens_with_users(key_id)).all()
    return Identities(epoch=epoch, tokens=tuple(_known_token(row) for row in rows))


def _tokens_with_users(key_id: str) -> Select[Any]:
    proof = and_(
        token_proofs.c.token_id == tokens.c.id,
        token_proofs.c.key_id == key_id,
        token_proofs.c.digest == tokens.c.digest,
    )
    return (
        select(
            tokens.c.id.label("token_id"),
            tokens.c.lookup,
            tokens.c.digest,
            tokens.c.imported,
            tokens.c.batch,
            users.c.id.label("user_id"),
            users.c.name,
            users.c.role,
            users.c.active,
            users.c.grants,
            groups.c.name.label("group"),
            groups.c.grants.label("group_grants"),
            token_proofs.c.proof,
        )
        .join(users, users.c.id == tokens.c.user_id)
        .outerjoin(token_proofs, proof)
        .outerjoin(memberships, memberships.c.user_id == users.c.id)
        .outerjoin(groups, groups.c.id == memberships.c.group_id)
    )


def read_grants(connection: Connection, name: str) -> Grants:
    """Read a user's grants combined with those of the user's group.

    Raises:
        UnknownUser: no user has this name; the message lists known names.
    """
    user = require_user(connection, name)
    query = (
        select(groups.c.grants)
        .join(memberships, memberships.c.group_id == groups.c.id)
        .where(memberships.c.user_id == user.id)
    )
    return _combined(user.grants, connection.execute(query).scalar_one_or_none())


def read_person(connection: Connection, name: str) -> User | None:
    """Read a user on whose behalf another user's token speaks, without a token (`token_id` 0); None if unknown."""
    query = (
        select(users, groups.c.name.label("group"), groups.c.grants.label("group_grants"))
        .outerjoin(memberships, memberships.c.user_id == users.c.id)
        .outerjoin(groups, groups.c.id == memberships.c.group_id)
        .where(users.c.name == name)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    grants = _combined(row.grants, row.group_grants)
    return User(id=row.id, name=row.name, role=row.role, active=row.active, token_id=0, grants=grants, group=row.group)


def count_persons(connection: Connection) -> int:
    """Count users without a token."""
    query = select(func.count()).select_from(users).where(~exists().where(tokens.c.user_id == users.c.id))
    return int(connection.execute(query).scalar_one())


def _known_token(row: Any) -> KnownToken:
    user = User(
        id=row.user_id,
        name=row.name,
        role=row.role,
        active=row.active,
        token_id=row.token_id,
        batch_token=row.batch,
        grants=grants_by_token(_combined(row.grants, row.group_grants), batch=row.batch),
        group=row.group,
    )
    return KnownToken(lookup=row.lookup, digest=row.digest, imported=row.imported, user=user, proof=row.proof)


@lru_cache(maxsize=4096)
def _combined(own: str, group: str | None) -> Grants:
    return load_grants(own) if group is None else combine_grants(load_grants(own), load_grants(group))
