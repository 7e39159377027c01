"""Stored responses of `/v1/responses` for their users, limited by age, number and size."""

from __future__ import annotations

from typing import assert_never

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from ollama_router_core.api.stored_responses import StoredResponse
from ollama_router_core.config.settings import Responses
from ollama_router_core.exchange.actions import Fetch, Forget, Keep, UseStore
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.schema import stored_responses
from ollama_router_server.system import Clock

__all__ = ["ResponseStore"]


class ResponseStore:
    """The stored responses of one database.

    Attributes:
        settings: the limits.
    """

    def __init__(self, database: Database, *, clock: Clock, settings: Responses) -> None:
        self._database = database
        self._clock = clock
        self.settings = settings

    async def carry_out(self, action: UseStore) -> StoredResponse | bool | None:
        """Perform a store operation of an exchange.

        Raises:
            StorageUnavailable: the database cannot be read or written.
        """
        oldest = self._clock.wall() - self.settings.keep
        match action.operation:
            case Fetch(user, given):
                return None if user is None else await self._database.read(_fetch, user, given, oldest)
            case Keep(user, response):
                if user is not None:
                    now, most = self._clock.wall(), self.settings.max_per_user
                    await self._database.write(_keep, user, response, now=now, oldest=oldest, most=most)
                return None
            case Forget(user, given):
                return user is not None and await self._database.write(_forget, user, given)
            case _:
                assert_never(action.operation)


def _fetch(connection: Connection, user: int, given: str, oldest: float) -> StoredResponse | None:
    table = stored_responses
    query = select(table.c.response, table.c["items"]).where(
        table.c.user_id == user, table.c.id == given, table.c.created_at >= oldest
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else StoredResponse(id=given, response=row[0].encode(), items=row[1].encode())


def _keep(connection: Connection, user: int, response: StoredResponse, *, now: float, oldest: float, most: int) -> None:
    """Store a response; delete the user's oldest beyond `most`, and all users' expired ones."""
    table = stored_responses
    _forget(connection, user, response.id)
    row = {
        "user_id": user,
        "id": response.id,
        "created_at": now,
        "response": response.response.decode(),
        "items": response.items.decode(),
    }
    connection.execute(insert(table).values(row))
    newest = (
        select(table.c.id).where(table.c.user_id == user).order_by(table.c.created_at.desc(), table.c.id).limit(most)
    )
    kept = connection.execute(newest).scalars().all()
    connection.execute(delete(table).where(table.c.user_id == user, table.c.id.not_in(kept)))
    connection.execute(delete(table).where(table.c.created_at < oldest))


def _forget(connection: Connection, user: int, given: str) -> bool:
    table = stored_responses
    gone = connection.execute(delete(table).where(table.c.user_id == user, table.c.id == given))
    return gone.rowcount > 0
