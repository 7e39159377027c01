"""What is said to PostgreSQL alone."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.dialect import give_room

pytestmark = pytest.mark.anyio


async def test_room_is_bounded_and_ends_with_the_transaction(migrated_postgresql: str) -> None:
    """Five readers may ask for figures at once, and each sort of each may take that much."""

    def room(connection: Connection, *, more: bool) -> str:
        if more:
            give_room(connection)
        return str(connection.execute(text("SHOW work_mem")).scalar_one())

    database = Database(migrated_postgresql)
    usual = await database.read(room, more=False)
    assert await database.read(room, more=True) == "16MB"
    assert await database.read(room, more=False) == usual
    await database.aclose()
