"""Rows of tokens and their proofs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from ollama_router_core.access.tokens import Token, lookup_of
from ollama_router_server.storage.dialect import insert_into
from ollama_router_server.storage.identities import KnownToken, TokenInfo, UnknownUser
from ollama_router_server.storage.identity_rows import require_user
from ollama_router_server.storage.schema import token_proofs, tokens

__all__ = ["delete_token", "insert_proof", "insert_proofs", "insert_token", "token_infos"]


def insert_token(
    connection: Connection, user_id: int, name: str, token: Token, digest: str, now: float, *, batch: bool
) -> int:
    """Store the digest of a new token; return the token's id."""
    row = {
        "user_id": user_id,
        "name": name,
        "lookup": lookup_of(token.reveal()),
        "digest": digest,
        "imported": False,
        "created_at": now,
        "batch": batch,
    }
    return int(connection.execute(insert(tokens).values(row).returning(tokens.c.id)).scalar_one())


def token_infos(connection: Connection, ids: Sequence[int] | None = None) -> dict[int, tuple[TokenInfo, ...]]:
    """Read the public data of tokens, of some users or of all, by user id."""
    columns = tokens.c
    shown = (columns.name, columns.lookup, columns.created_at, columns.last_used_at, columns.batch)
    query = select(columns.user_id, *shown).order_by(columns.id)
    if ids is not None:
        query = query.where(columns.user_id.in_(ids))
    infos: dict[int, tuple[TokenInfo, ...]] = {}
    for owner, name, lookup, created_at, last_used_at, batch in connection.execute(query):
        info = TokenInfo(name=name, lookup=lookup, created_at=created_at, last_used_at=last_used_at, batch=batch)
        infos[owner] = (*infos.get(owner, ()), info)
    return infos


def delete_token(connection: Connection, user: str, name: str) -> None:
    """Delete one of a user's tokens.

    Raises:
        UnknownUser: the user does not exist, or has no token of this name.
    """
    row = require_user(connection, user)
    infos = token_infos(connection, [row.id]).get(row.id, ())
    if name not in {info.name for info in infos}:
        known = ", ".join(info.name for info in infos) or "none"
        raise UnknownUser(f"{user} has no token named {name!r}; known: {known}")
    connection.execute(delete(tokens).where(tokens.c.user_id == row.id, tokens.c.name == name))


def insert_proofs(connection: Connection, key_id: str, proven: Sequence[KnownToken]) -> None:
    """Store the proofs of those tokens that still exist."""
    ids = [known.user.token_id for known in proven]
    standing = set(connection.execute(select(tokens.c.id).where(tokens.c.id.in_(ids))).scalars())
    for known in proven:
        if known.user.token_id in standing and known.proof is not None:
            insert_proof(connection, key_id, known.user.token_id, known.digest, known.proof)


def insert_proof(connection: Connection, key_id: str, token_id: int, digest: str, proof: str) -> None:
    """Store a token's proof under a router's key, replacing an older one."""
    row = {"token_id": token_id, "key_id": key_id, "digest": digest, "proof": proof}
    statement = insert_into(connection.dialect.name, token_proofs).values(row)
    changed = {"digest": digest, "proof": proof}
    connection.execute(statement.on_conflict_do_update(index_elements=["token_id", "key_id"], set_=changed))
