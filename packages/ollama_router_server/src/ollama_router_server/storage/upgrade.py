"""Upgrades a database to the schema of this release.

SQLite files are upgraded when the router starts; PostgreSQL only by `orouter db upgrade`, because routers of different
releases may share it. A new database gets its tables at once. Alembic is imported only when an older one has to be
upgraded: it takes 150 ms and 14 MB, and a router would keep them as long as it runs.

A revision whose name ends in `_expand` only adds to the schema: the release before it goes on working with it, so that
routers of both may share a database. What is no longer used goes with a revision of the release after (contract).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, text
from sqlalchemy.engine import Connection

from ollama_router_core.errors import ConfigError
from ollama_router_server.storage.database import Database, create_sqlite_file, sqlite_path
from ollama_router_server.storage.schema import auth_epoch, metadata
from ollama_router_server.storage.schema_lock import LockPatience, change_schema

__all__ = [
    "UNFINISHED",
    "SchemaState",
    "check_database",
    "create_tables",
    "downgrade_database",
    "known_revisions",
    "migrate",
    "prepare_database",
    "read_state",
    "refuse_unknown",
    "set_revision",
    "upgrade_database",
]

UNFINISHED = "copying-"
"""What the revision of a database begins with into which another is being copied: no router starts on it."""

_EXPANDS = "_expand"
_MIGRATIONS = Path(__file__).with_name("migrations")
_LAST_UNRELEASED = "0005_speakers_expand"
"""The last revision before the first release; its tables are those of the first one."""
_NEVER_RELEASED = frozenset(
    {
        *("0001", "0002", "0003", "0004", "0005"),
        *("0001_first_release", "0002_incidents_expand", "0003_usage_expand", "0004_token_priority_expand"),
    }
)
_PATIENCE = LockPatience()


def _nobody(_sentence: str) -> None:
    """Report nothing; the default."""


class SchemaState(Struct, frozen=True, kw_only=True):
    """A database's revision and this release's; `current` is None before the first upgrade."""

    current: str | None
    newest: str
    known: bool

    @property
    def up_to_date(self) -> bool:
        """Whether this release can use the database as it is."""
        return self.current == self.newest

    @property
    def usable(self) -> bool:
        """Whether this release works with the database: it is up to date, or the next release only added to it."""
        if self.up_to_date or self.current is None or self.never_released:
            return self.up_to_date
        return self.current.endswith(_EXPANDS) and _number(self.current) == _number(self.newest) + 1

    @property
    def never_released(self) -> bool:
        """Whether a development version made the database, whose tables no release reads."""
        return self.current in _NEVER_RELEASED

    @property
    def unfinished(self) -> bool:
        """Whether another database is being copied into this one, or was."""
        return self.current is not None and self.current.startswith(UNFINISHED)

    @property
    def remedy(self) -> str:
        """Return how to make an unusable database usable, for the operator."""
        if self.known:
            return "orouter db upgrade"
        if self.unfinished:
            return "run the same orouter db copy again, which goes on where it ended"
        if self.never_released:
            return (
                f"upgrade it to {_LAST_UNRELEASED} with the last development version, or move the file away, or empty "
                "the PostgreSQL database, and create the users again"
            )
        return f"use a newer release, or with that one run: orouter db downgrade --to {self.newest}"


async def check_database(url: str) -> SchemaState:
    """Read a database's revision without changing anything.

    Raises:
        ConfigError: the URL is of no database we know.
        StorageUnavailable: the database does not exist or cannot answer.
    """
    database = Database(url)
    try:
        return await database.read(read_state)
    finally:
        await database.aclose()


async def upgrade_database(
    url: str, *, tell: Callable[[str], None] = _nobody, patience: LockPatience = _PATIENCE
) -> SchemaState:
    """Upgrade a database to the newest revision, in one transaction; a missing SQLite file is created.

    Several processes may call this at once: one works, the others wait and find nothing left to do.

    Args:
        url: of the database.
        tell: called with a sentence each time that others hold PostgreSQL's tables for too long.
        patience: with them.

    Raises:
        ConfigError: as `check_database`, or the database belongs to a newer release.
        StorageUnavailable: the database cannot be made, cannot answer, or its tables are in use.
    """
    database = Database(url, busy_timeout=30.0)
    if database.path is not None:
        create_sqlite_file(database.path)
    try:
        return await change_schema(database, tell, patience, _upgrade)
    finally:
        await database.aclose()


async def downgrade_database(
    url: str,
    revision: str | None = None,
    *,
    tell: Callable[[str], None] = _nobody,
    patience: LockPatience = _PATIENCE,
) -> SchemaState:
    """Take a database back to an earlier revision, one step unless told; what later ones added is lost.

    Args:
        url: of the database.
        revision: an earlier one; None is the one before.
        tell: as of `upgrade_database`.
        patience: likewise.

    Raises:
        ConfigError: see `upgrade_database`; or the earlier revision does not exist.
        StorageUnavailable: the database does not exist, cannot answer, or its tables are in use.
    """
    database = Database(url, busy_timeout=30.0)
    try:
        return await change_schema(database, tell, patience, _downgrade, revision)
    finally:
        await database.aclose()


async def prepare_database(url: str) -> SchemaState:
    """Upgrade SQLite, check PostgreSQL: what a router does at start.

    A database that is up to date is only read: a locked or read-only one must not keep a router from starting.

    Raises:
        ConfigError: as `upgrade_database`, or a PostgreSQL database needs `orouter db upgrade` first.
        StorageUnavailable: the database cannot be made or cannot answer.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        return await upgrade_database(url)
    state = await check_database(url)
    if not state.usable:
        if path is not None:
            return await upgrade_database(url)
        refuse_unknown(state)
        raise ConfigError(
            f"the database is at revision {state.current or 'none'}, this release needs {state.newest}; "
            f"run: {state.remedy}"
        )
    return state


def known_revisions() -> tuple[str, ...]:
    """Return the revisions of this release, oldest first: each file is named after its revision."""
    return tuple(sorted(step.stem.removeprefix("v") for step in _MIGRATIONS.joinpath("versions").glob("v[0-9]*.py")))


def read_state(connection: Connection) -> SchemaState:
    """Read a database's revision."""
    current = None
    if inspect(connection).has_table("alembic_version"):
        current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    known = known_revisions()
    if current == _LAST_UNRELEASED:
        current = known[0]
    return SchemaState(current=current, newest=known[-1], known=current is None or current in known)


def _upgrade(connection: Connection) -> SchemaState:
    state = read_state(connection)
    refuse_unknown(state)
    if not inspect(connection).has_table("alembic_version"):
        create_tables(connection, state.newest)
    elif not state.up_to_date:
        if state.current is not None:
            set_revision(connection, state.current)  # Alembic does not know the last unreleased one
        migrate(connection)
    return read_state(connection)


def _downgrade(connection: Connection, revision: str | None) -> SchemaState:
    state = read_state(connection)
    refuse_unknown(state)
    known = known_revisions()
    earlier = known[: known.index(state.current)] if state.current is not None else ()
    if not earlier:
        raise ConfigError(f"the database is at revision {state.current or 'none'}; there is none before it")
    target = earlier[-1] if revision is None else revision
    if target not in earlier:
        raise ConfigError(f"{target} is no revision before {state.current}; those are {', '.join(earlier)}")
    migrate(connection, target)
    return read_state(connection)


def set_revision(connection: Connection, revision: str) -> None:
    """Note which revision a database is at."""
    connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def create_tables(connection: Connection, revision: str) -> None:
    """Make the tables of a new database as they are declared, which is where the steps of a migration lead."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(auth_epoch).values(id=1, epoch=1))
    key = PrimaryKeyConstraint("version_num", name="alembic_version_pkc")
    versions = Table("alembic_version", MetaData(), Column("version_num", String(32), nullable=False), key)
    versions.create(connection)
    connection.execute(insert(versions).values(version_num=revision))


def migrate(connection: Connection, earlier: str | None = None) -> None:
    """Take every step from the database's revision to the newest one, or back to an earlier one."""
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    if earlier is None:
        command.upgrade(config, "head")
    else:
        command.downgrade(config, earlier)


def _number(revision: str) -> int:
    digits = revision.partition("_")[0]
    return int(digits) if digits.isdecimal() else -1


def refuse_unknown(state: SchemaState) -> None:
    """Refuse a database that this release cannot read.

    Raises:
        ConfigError: its revision is none of ours.
    """
    if state.known:
        return
    found = f"the database is at revision {state.current}, which this release does not know"
    if state.unfinished:
        found = "a copy into this database was broken off"
    elif state.never_released:
        found = f"a development version made the database (revision {state.current}), and no release reads its tables"
    raise ConfigError(f"{found}; {state.remedy}")
