"""Changes of incidents and their SQL: an incident begins or ends; its router starts, stops or is reconfigured.

At most one active incident has the same `scope`, kind, server and model. A unique index enforces this, so workers, and
routers that share breakers, may all report the same incident.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, assert_never

from msgspec import Struct
from sqlalchemy import ColumnElement, case, exists, select, update
from sqlalchemy.engine import Connection

from ollama_router_server.storage.dialect import insert_into
from ollama_router_server.storage.schema import incidents

__all__ = [
    "AFTER_A_RESTART",
    "LONGEST_MODEL",
    "Began",
    "Change",
    "Ended",
    "IncidentKey",
    "IncidentKind",
    "Origin",
    "Reconfigured",
    "Started",
    "Stopped",
    "apply_changes",
]

IncidentKind = Literal[
    "server.down",
    "server.suspended",
    "model.suspended",
    "config.refused",
    "coordination.away",
    "database.away",
    "line.full",
    "requests.refused",
    "log.lost",
    "versions.differ",
    "digests.differ",
    "router.restart",
]

_RESTART: Final[IncidentKind] = "router.restart"
AFTER_A_RESTART: Final[tuple[IncidentKind, ...]] = (
    "server.suspended", "model.suspended", "config.refused", "coordination.away", "database.away",
    "line.full", "requests.refused", "log.lost", "versions.differ", "digests.differ",
)  # fmt: skip
"""Kinds of incident that a restart of the process ends."""
_OF_A_FLEET: Final[tuple[IncidentKind, ...]] = ("server.suspended", "requests.refused")
"""Kinds that routers with shared breakers and news report once for the fleet; they outlive the reporting router."""
LONGEST_MODEL: Final = 512
_LONGEST_CAUSE: Final = 1_000


class Origin(Struct, frozen=True):
    """The reporter of incidents: a router by name, and the fleet with which it shares state, if any."""

    router: str
    fleet: str | None = None

    def scope(self, kind: IncidentKind) -> str:
        """Return the scope within which an incident of this kind is unique."""
        return f"fleet {self.fleet}"[:100] if kind in _OF_A_FLEET and self.fleet else self.router

    @property
    def scopes(self) -> tuple[str, str]:
        """The scopes of all incidents of this router."""
        return self.router, self.scope("server.suspended")


class IncidentKey(NamedTuple):
    """The key of an incident within its scope; at most one with this key is active."""

    kind: IncidentKind
    server: str = ""
    model: str = ""


class Began(Struct, frozen=True, kw_only=True):
    """An incident begins, unless it is already active; `at` is seconds since 1970."""

    kind: IncidentKind
    at: float
    cause: str
    server: str = ""
    model: str = ""


class Ended(Struct, frozen=True, kw_only=True):
    """An incident ends, if active; `model` None ends it for every model."""

    kind: IncidentKind
    at: float
    server: str = ""
    model: str | None = ""


class Started(Struct, frozen=True, kw_only=True):
    """The router has started with these servers; incidents that a restart ends are over."""

    at: float
    servers: frozenset[str]


class Reconfigured(Struct, frozen=True, kw_only=True):
    """The router has activated a config with these servers."""

    at: float
    servers: frozenset[str]


class Stopped(Struct, frozen=True, kw_only=True):
    """The router stops on request; it had started at `since`."""

    at: float
    since: float


Change = Began | Ended | Started | Reconfigured | Stopped


def apply_changes(connection: Connection, origin: Origin, changes: Sequence[Change]) -> None:
    """Write changes in order."""
    for change in changes:
        match change:
            case Began():
                _begin(connection, origin, change)
            case Ended():
                _end(connection, _is(origin, change), change.at)
            case Started():
                _start(connection, origin, change)
            case Reconfigured():
                _forget_servers(connection, origin, change)
            case Stopped():
                _stop(connection, origin, change)
            case _:
                assert_never(change)


def _begin(connection: Connection, origin: Origin, began: Began, *, ended_at: float | None = None) -> None:
    row = {
        "scope": origin.scope(began.kind),
        "router": origin.router,
        "kind": began.kind,
        "server": began.server,
        "model": began.model[:LONGEST_MODEL],
        "began_at": began.at,
        "ended_at": ended_at,
        "seen_at": began.at,
        "cause": " ".join(began.cause.replace("\0", "\ufffd").split())[:_LONGEST_CAUSE],
    }
    connection.execute(insert_into(connection.dialect.name, incidents).on_conflict_do_nothing(), row)


def _end(connection: Connection, condition: ColumnElement[bool], at: float) -> None:
    columns = incidents.c
    not_before = case((columns.began_at > at, columns.began_at), else_=at)  # the clock may have been set back
    connection.execute(update(incidents).where(condition, columns.ended_at.is_(None)).values(ended_at=not_before))


def _is(origin: Origin, change: Ended) -> ColumnElement[bool]:
    columns = incidents.c
    same = (columns.scope == origin.scope(change.kind)) & (columns.kind == change.kind)
    same &= columns.server == change.server
    return same if change.model is None else same & (columns.model == change.model[:LONGEST_MODEL])


def _forget_servers(connection: Connection, origin: Origin, change: Started | Reconfigured) -> None:
    columns = incidents.c
    gone = (columns.server != "") & columns.server.not_in(change.servers)
    _end(connection, (columns.router == origin.router) & gone, change.at)


def _start(connection: Connection, origin: Origin, started: Started) -> None:
    columns = incidents.c
    _forget_servers(connection, origin, started)
    alone = columns.kind.in_([kind for kind in AFTER_A_RESTART if origin.scope(kind) == origin.router])
    _end(connection, (columns.router == origin.router) & alone, started.at)
    mine = (columns.router == origin.router) & (columns.kind == _RESTART)
    newest = select(columns.id, columns.cause).where(mine).order_by(columns.began_at.desc(), columns.id.desc())
    last = connection.execute(newest.limit(1)).one_or_none()
    if last is not None and last.cause == "stopped":
        restarted = {"ended_at": started.at, "cause": "stopped and started again"}
        connection.execute(update(incidents).where(columns.id == last.id).values(restarted))
        return
    cause = "started for the first time" if last is None else "started; that it stopped before is not recorded"
    _begin(connection, origin, Began(kind=_RESTART, at=started.at, cause=cause), ended_at=started.at)


def _stop(connection: Connection, origin: Origin, stopped: Stopped) -> None:
    """Record a router's stop, unless its successor on the same socket has already started: then there was no outage."""
    columns = incidents.c
    mine = (columns.router == origin.router) & (columns.kind == _RESTART)
    succeeded = select(exists().where(mine, columns.ended_at > stopped.since))
    if not connection.execute(succeeded).scalar_one():
        began = Began(kind=_RESTART, at=stopped.at, cause="stopped")
        _begin(connection, origin, began, ended_at=stopped.at)
