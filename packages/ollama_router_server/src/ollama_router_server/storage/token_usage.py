"""Tokens used by users with a token limit, by day."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.engine import Connection

from ollama_router_core.access.limits import DAY
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.dialect import adding_into, insert_into
from ollama_router_server.storage.log_stats import tokens_by_day
from ollama_router_server.storage.schema import token_usage

__all__ = ["DayOfUser", "TokenUsage"]

DayOfUser = tuple[str, int]
"""A user's name, and days since 1970-01-01 (UTC)."""

_NAMES_AT_ONCE = 500


class TokenUsage:
    """The token counts of one database. Every method may raise `StorageUnavailable`; nothing is changed then."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = insert_into(database.backend, token_usage)

    async def add(self, deltas: Mapping[DayOfUser, int]) -> None:
        """Add to the counts, atomically; negative numbers subtract."""
        if not deltas:
            return
        rows = [{"user": user, "day": day, "tokens": tokens} for (user, day), tokens in sorted(deltas.items())]
        statement = adding_into(self._database.backend, token_usage)
        await self._database.write(lambda connection: connection.execute(statement, rows))

    async def read(self, users: Collection[str], *, first_day: int) -> dict[DayOfUser, int]:
        """Read the counts of these users from `first_day` on."""
        return await self._database.read(_counts, sorted(users), first_day)

    async def count_anew(self, user: str, *, first_day: int, today: int) -> None:
        """Count a user's tokens from the request log, unless there are counts since `first_day`.

        For users who had no limit before; counts only tokens in rows that the log still has.
        """
        known = select(token_usage.c.day).where(token_usage.c.user == user, token_usage.c.day >= first_day).limit(1)

        def count(connection: Connection) -> None:
            if connection.execute(known).first() is not None:
                return
            counts = tokens_by_day(connection, user, since=first_day * DAY)
            days = {today: 0} | {start // DAY: tokens for start, tokens in counts.items()}
            rows = [{"user": user, "day": day, "tokens": tokens} for day, tokens in days.items()]
            connection.execute(self._insert.on_conflict_do_nothing(), rows)

        await self._database.write(count)


def _counts(connection: Connection, names: Sequence[str], first_day: int) -> dict[DayOfUser, int]:
    columns = token_usage.c
    counts: dict[DayOfUser, int] = {}
    for start in range(0, len(names), _NAMES_AT_ONCE):
        some = columns.user.in_(names[start : start + _NAMES_AT_ONCE])
        query = select(columns.user, columns.day, columns.tokens).where(some, columns.day >= first_day)
        counts |= {(user, day): tokens for user, day, tokens in connection.execute(query)}
    return counts
