"""Stored operations on models; they belong to the router, not to the user who started them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from ollama_router_core.errors import Overloaded, RouterError
from ollama_router_core.routing.model_placement import OperationKind
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.schema import operations
from ollama_router_server.system import Clock

__all__ = [
    "KEPT_SECONDS",
    "MOST_UNFINISHED",
    "Operation",
    "OperationOver",
    "OperationStore",
    "TargetProgress",
    "TargetState",
]

TargetState = Literal["waiting", "running", "done", "failed", "cancelled"]

KEPT_SECONDS: Final = 7 * 86_400.0
MOST_UNFINISHED: Final = 50


class TargetProgress(Struct, frozen=True, kw_only=True):
    """The progress of an operation on one server; `completed` and `total` are bytes, 0 if unknown."""

    server: str
    state: TargetState = "waiting"
    status: str = ""
    completed: int = 0
    total: int = 0
    error: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[TargetProgress, ...]).decode


class Operation(Struct, frozen=True, kw_only=True):
    """One operation; times are seconds since 1970. `destination` is the new name of a copy."""

    id: str
    kind: OperationKind
    model: str
    destination: str | None
    context: int | None
    actor: str
    created_at: float
    seen_at: float
    finished_at: float | None
    cancelled: bool
    targets: tuple[TargetProgress, ...]


class OperationOver(RouterError):
    """A finished operation cannot be cancelled; an unfinished one cannot be retried."""

    code = "operation_over"
    status_hint = 409


class OperationStore:
    """The operations of one database."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, operation: Operation) -> None:
        """Insert a new operation; delete finished ones older than a week.

        Raises:
            Overloaded: 50 operations are unfinished.
        """
        await self._database.write(_add, operation, self._clock.wall() - KEPT_SECONDS)

    async def save(self, operation_id: str, targets: Iterable[TargetProgress], *, finished: bool) -> bool:
        """Write an operation's progress and a heartbeat; return whether it was cancelled."""
        return await self._database.write(_save, operation_id, tuple(targets), self._clock.wall(), finished=finished)

    async def leave(self, operation_id: str) -> None:
        """Release an operation so that any other process can resume it at once."""
        left = update(operations).where(operations.c.id == operation_id).values(seen_at=0.0)
        await self._database.write(lambda connection: connection.execute(left))

    async def cancel(self, operation_id: str) -> None:
        """Cancel an operation; the process that runs it stops within about a second."""
        ended = update(operations).where(operations.c.id == operation_id).values(cancelled=True)
        await self._database.write(lambda connection: connection.execute(ended))

    async def find(self, operation_id: str) -> Operation | None:
        """Find one operation."""
        found = await self._database.read(_select, operations.c.id == operation_id, 1)
        return found[0] if found else None

    async def list(self, *, limit: int = 50) -> tuple[Operation, ...]:
        """Return operations, newest first, at most `limit`."""
        return await self._database.read(_select, None, limit)

    async def take_over(self, *, seen_before: float) -> tuple[Operation, ...]:
        """Claim and return unfinished operations without a heartbeat since `seen_before` (seconds since 1970)."""
        if not await self._database.read(_select, _lost(seen_before), 1):
            return ()  # avoid a write transaction
        return await self._database.write(_take_over, seen_before, self._clock.wall())


def _add(connection: Connection, operation: Operation, kept_since: float) -> None:
    columns = operations.c
    old = columns.finished_at.is_not(None) & (columns.created_at < kept_since)
    connection.execute(delete(operations).where(old))
    unfinished = select(func.count()).select_from(operations).where(columns.finished_at.is_(None))
    if connection.execute(unfinished).scalar_one() >= MOST_UNFINISHED:
        raise Overloaded(f"{MOST_UNFINISHED} operations are not finished; wait for one, or cancel one", retry_after=30)
    row = {name: getattr(operation, name) for name in columns.keys() if name != "targets"}  # noqa: SIM118 - no mapping
    connection.execute(insert(operations).values(**row, targets=_encode(operation.targets).decode()))


def _save(
    connection: Connection, operation_id: str, targets: tuple[TargetProgress, ...], now: float, *, finished: bool
) -> bool:
    values = {"targets": _encode(targets).decode(), "seen_at": now, "finished_at": now if finished else None}
    columns = operations.c
    changed = update(operations).where(columns.id == operation_id).values(values).returning(columns.cancelled)
    return bool(connection.execute(changed).scalar_one_or_none())


def _select(connection: Connection, condition: ColumnElement[bool] | None, limit: int) -> tuple[Operation, ...]:
    query = select(operations).order_by(operations.c.created_at.desc(), operations.c.id.desc()).limit(limit)
    if condition is not None:
        query = query.where(condition)
    return tuple(
        Operation(**{**row, "targets": _decode(row["targets"])}) for row in connection.execute(query).mappings()
    )


def _lost(seen_before: float) -> ColumnElement[bool]:
    return operations.c.finished_at.is_(None) & (operations.c.seen_at < seen_before)


def _take_over(connection: Connection, seen_before: float, now: float) -> tuple[Operation, ...]:
    columns = operations.c
    found = _select(connection, _lost(seen_before), MOST_UNFINISHED)
    ids = [operation.id for operation in found]
    connection.execute(update(operations).where(columns.id.in_(ids)).values(seen_at=now))
    return tuple(replace(operation, seen_at=now) for operation in found)
