"""Row operations shared by the stores of users and groups."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, get_args

from sqlalchemy import Row, Select, Table, func, select, update
from sqlalchemy.engine import Connection

from ollama_router_core.access.grants import Grants, InvalidGrants, grants_from_json, grants_to_json
from ollama_router_server.storage.audit_log import AuditEntry, insert_entry
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.identities import InvalidUserName, Role, UnknownGroup, UnknownUser
from ollama_router_server.storage.schema import auth_epoch, groups, users

__all__ = [
    "check_name",
    "check_role",
    "dump_grants",
    "identity_change",
    "load_grants",
    "next_epoch",
    "page_by_name",
    "require_group",
    "require_user",
]

T = TypeVar("T")
P = ParamSpec("P")

_NAMES_SHOWN = 20


class NamedRows(NamedTuple):
    """A page of rows by name; `next` is the name after which the next page begins, `matching` counts all matches."""

    rows: Sequence[Row[Any]]
    next: str | None
    matching: int


async def identity_change(
    database: Database,
    entry: AuditEntry,
    work: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Write as `Database.write` does, with an audit entry, and increment the epoch that processes poll."""

    def change(connection: Connection) -> T:
        next_epoch(connection)
        insert_entry(connection, entry)
        return work(connection, *args, **kwargs)

    return await database.write(change)


def next_epoch(connection: Connection) -> None:
    """Increment the epoch, so that processes that poll it read this transaction's changes."""
    connection.execute(update(auth_epoch).values(epoch=auth_epoch.c.epoch + 1))


def check_name(name: str) -> None:
    """Check that a name can be typed, printed and logged safely.

    Raises:
        InvalidUserName: it cannot be.
    """
    if not 0 < len(name) <= 100 or not name.isprintable() or name != name.strip():
        raise InvalidUserName("a name has 1 to 100 printable characters and no white space at its ends")


def check_role(role: str) -> None:
    """Check that a role exists.

    Raises:
        ValueError: it does not.
    """
    if role not in get_args(Role):
        raise ValueError(f"expected a role among {', '.join(get_args(Role))}, got {role!r}")


def page_by_name(connection: Connection, found: Select[Any], table: Table, after: str | None, limit: int) -> NamedRows:
    """Read at most `limit` rows of a query on a table with names, ordered by name, after the name `after`."""
    matching = connection.execute(select(func.count()).select_from(found.subquery())).scalar_one()
    behind = () if after is None else (table.c.name > after,)
    rows = connection.execute(found.where(*behind).order_by(table.c.name).limit(limit + 1)).all()
    shown = rows[:limit]
    return NamedRows(shown, shown[-1].name if len(rows) > limit else None, matching)


def require_user(connection: Connection, name: str) -> Row[Any]:
    """Read a user's row.

    Raises:
        UnknownUser: the user does not exist; the message lists known names.
    """
    row = _find(connection, users, name)
    if row is None:
        raise UnknownUser(f"no user is named {name!r}; {_known(connection, users, name)}")
    return row


def require_group(connection: Connection, name: str) -> Row[Any]:
    """Read a group's row.

    Raises:
        UnknownGroup: the group does not exist; the message lists known names.
    """
    row = _find(connection, groups, name)
    if row is None:
        raise UnknownGroup(f"no group is named {name!r}; {_known(connection, groups, name)}")
    return row


def _find(connection: Connection, table: Table, name: str) -> Row[Any] | None:
    return connection.execute(select(table).where(table.c.name == name)).one_or_none()


def _known(connection: Connection, table: Table, name: str) -> str:
    names = connection.execute(select(table.c.name).order_by(table.c.name)).scalars().all()
    if not names:
        return f"there are no {table.name} yet"
    if len(names) <= _NAMES_SHOWN:
        return f"known: {', '.join(names)}"
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    shown = near + [known for known in names if known not in near][: _NAMES_SHOWN - len(near)]
    return f"known: {', '.join(shown)} and {len(names) - len(shown)} more"


@lru_cache(maxsize=1024)  # thousands of users share a few different grants
def load_grants(text: str) -> Grants:
    """Parse stored grants; text that this release cannot read (edited by hand, or newer) grants no access."""
    try:
        return grants_from_json(json.loads(text))
    except (ValueError, InvalidGrants):
        return Grants(models=(), hosts=(), kinds=(), networks=())


def dump_grants(grants: Grants) -> str:
    """Serialise grants for storage."""
    return json.dumps(grants_to_json(grants), sort_keys=True)
