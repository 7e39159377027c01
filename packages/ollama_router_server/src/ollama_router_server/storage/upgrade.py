"""Upgrades a database to the schema of this release.

SQLite files are upgraded when the router starts; PostgreSQL only by `orouter db upgrade`, because routers of different
releases may share it. A new database gets its tables at once. Alembic is imported only to upgrade an older database: it
takes 150 ms and 14 MB for the lifetime of the process.

A revision named `..._expand` only adds to the schema: the previous release keeps working with it, so routers of both
releases may share a database. The next release drops what is unused (contract).
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
"""The prefix of the revision of an unfinished copy; no router starts on it."""

_EXPANDS = "_expand"
_MIGRATIONS = Path(__file__).with_name("migrations")
_LAST_UNRELEASED = "0005_speakers_expand"
"""The last revision before the first release, with the same tables as the first release."""
_NEVER_RELEASED = frozenset(
    {
        *("0001", "0002", "0003", "0004", "0005"),
        *("0001_first_release", "0002_incidents_expand", "0003_usage_expand", "0004_token_priority_expand"),
    }
)
_PATIENCE = LockPatience()


def _ignore(_sentence: str) -> None:
    """Ignore the sentence; the default of `tell`."""


class SchemaState(Struct, frozen=True, kw_only=True):
    """A database's revision and this release's; `current` is None before the first upgrade."""

    current: str | None
    newest: str
    known: bool

    @property
    def up_to_date(self) -> bool:
        """Whether the database is at this release's revision."""
        return self.current == self.newest

    @property
    def usable(self) -> bool:
        """Whether this release works with the database: up to date, or one `_expand` revision ahead."""
        if self.up_to_date or self.current is None or self.never_released:
            return self.up_to_date
        return self.current.endswith(_EXPANDS) and _number(self.current) == _number(self.newest) + 1

    @property
    def never_released(self) -> bool:
        """Whether an unreleased version created the database, whose tables no release reads."""
        return self.current in _NEVER_RELEASED

    @property
    def unfinished(self) -> bool:
        """Whether the database is the target of an unfinished copy."""
        return self.current is not None and self.current.startswith(UNFINISHED)

    @property
    def remedy(self) -> str:
        """The command or steps that make an unusable database usable, for the operator."""
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
        ConfigError: the URL's database is not supported.
        StorageUnavailable: the database does not exist or cannot answer.
    """
    database = Database(url)
    try:
        return await database.read(read_state)
    finally:
        await database.aclose()


async def upgrade_database(
    url: str, *, tell: Callable[[str], None] = _ignore, patience: LockPatience = _PATIENCE
) -> SchemaState:
    """Upgrade a database to the newest revision, in one transaction; create a missing SQLite file.

    Several processes may call this at once: one upgrades, the others wait and find nothing to do.

    Args:
        url: the database's URL.
        tell: called with a sentence whenever others hold PostgreSQL's tables for too long.
        patience: the limits of waiting for locks.

    Raises:
        ConfigError: see `check_database`; or the database belongs to a newer release.
        StorageUnavailable: the database cannot be created or cannot answer, or its tables are in use.
    """
    database = Database(url, busy_timeout=30.0)
    if database.path is not None:
        create_sqlite_file(database.path)
    try:
        return await change_schema(database, tell, patience, _upgrade)
    finally:
        await database.aclose()


async def downgrade_database(
    url: str, revision: str | None = None, *, tell: Callable[[str], None] = _ignore
) -> SchemaState:
    """Downgrade a database to an earlier revision, by default one step; data that later revisions added is lost.

    Args:
        url: the database's URL.
        revision: an earlier revision; None is the previous one.
        tell: see `upgrade_database`.

    Raises:
        ConfigError: see `upgrade_database`; or the earlier revision does not exist.
        StorageUnavailable: the database does not exist, cannot answer, or its tables are in use.
    """
    database = Database(url, busy_timeout=30.0)
    try:
        return await change_schema(database, tell, _PATIENCE, _downgrade, revision)
    finally:
        await database.aclose()


async def prepare_database(url: str) -> SchemaState:
    """Upgrade SQLite, check PostgreSQL, at a router's start.

    An up-to-date database is only read, so that a router starts on a locked or read-only one.

    Raises:
        ConfigError: see `upgrade_database`; or a PostgreSQL database needs `orouter db upgrade` first.
        StorageUnavailable: the database cannot be created or cannot answer.
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
    """Return the revisions of this release, oldest first, from the names of the migration files."""
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
            set_revision(connection, state.current)  # Alembic does not know the last unreleased revision
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
    """Store a database's revision."""
    connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def create_tables(connection: Connection, revision: str) -> None:
    """Create the tables of a new database as declared, the end state of all migrations."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(auth_epoch).values(id=1, epoch=1))
    key = PrimaryKeyConstraint("version_num", name="alembic_version_pkc")
    versions = Table("alembic_version", MetaData(), Column("version_num", String(32), nullable=False), key)
    versions.create(connection)
    connection.execute(insert(versions).values(version_num=revision))


def migrate(connection: Connection, earlier: str | None = None) -> None:
    """Run every migration from the database's revision to the newest one, or back to an earlier one."""
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
    """Reject a database that this release cannot read.

    Raises:
        ConfigError: its revision is unknown to this release.
    """
    if state.known:
        return
    found = f"the database is at revision {state.current}, which this release does not know"
    if state.unfinished:
        found = "a copy into this database was broken off"
    elif state.never_released:
        found = f"a development version made the database (revision {state.current}), and no release reads its tables"
    raise ConfigError(f"{found}; {state.remedy}")
