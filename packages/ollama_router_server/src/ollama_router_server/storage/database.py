"""One database: its URL, its connections, its transactions.

SQLite runs in WAL mode with `synchronous=NORMAL`: a killed process loses nothing that was committed, a power
failure may lose the last commits but never the file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, QueuePool, create_engine, event, make_url
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import DataError as SqlDataError

from ollama_router_core.config import without_password
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError, StorageUnavailable
from ollama_router_server.storage.daemon_threads import DaemonThreads
from ollama_router_server.storage.data_folders import user_folder

__all__ = [
    "Database",
    "create_sqlite_file",
    "database_url_of",
    "default_database_url",
    "describe_url",
    "sqlite_path",
    "sqlite_url",
]

T = TypeVar("T")
P = ParamSpec("P")

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_READERS = 5
# Without this, a server that vanished would block the writing thread: libpq detects it after ten seconds.
_DEAD_PEER = {"tcp_user_timeout": 10_000, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
# The statement or a value is at fault; trying again later would not help.
_CALLERS_FAULT = (IntegrityError, SqlDataError, ProgrammingError)


def database_url_of(config: Config, environment: Mapping[str, str]) -> str:
    """Return `OROUTER_DATABASE_URL`, else the config's `database_url`, else the default; it may contain a password."""
    return environment.get("OROUTER_DATABASE_URL") or config.database_url or default_database_url()


def default_database_url() -> str:
    """Return the URL of a SQLite file in the platform's data directory of this user."""
    return sqlite_url(user_folder() / "router.sqlite3")


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string(hide_password=False)


def describe_url(url: str) -> str:
    """Return the URL for people and logs: its passwords are hidden, also those in its query."""
    try:
        return without_password(make_url(url).render_as_string(hide_password=True))
    except (ArgumentError, ValueError):  # ValueError: its port is no number
        return "(not a URL)"


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in _DRIVERS:
        raise ConfigError(
            "the database URL must look like sqlite:////path/to/router.sqlite3 "
            "or postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    parsed = parsed.set(drivername=_DRIVERS[parsed.drivername])
    if parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise ConfigError("the database URL must name a file: a database in memory is not shared or kept")
    return parsed


def sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite URL, None for PostgreSQL.

    Raises:
        ConfigError: the URL is of no database we know, or its driver is not installed.
    """
    parsed = _parse(url)
    return Path(str(parsed.database)).absolute() if parsed.get_backend_name() == "sqlite" else None


def create_sqlite_file(path: Path) -> None:
    """Create the file and its folder, readable by their owner alone, and switch it to WAL (which lasts).

    Raises:
        StorageUnavailable: the file cannot be made or is no SQLite database.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(path, timeout=5.0)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except (OSError, sqlite3.Error) as error:
        raise StorageUnavailable(f"cannot open the database {path}: {error}") from error


class Database:
    """Connections to one database, opened when first needed.

    A transaction is a function of a connection; it runs in a thread, from begin to end, also if the task that waits
    for it is cancelled. Writes run one after the other, several reads may run beside them.

    Args:
        url: a SQLAlchemy URL; `sqlite` and `postgresql` get the driver this package uses.
        busy_timeout: seconds to wait for a lock of SQLite or a connection of PostgreSQL.

    Raises:
        ConfigError: the URL is of no database we know.
    """

    def __init__(self, url: str, *, busy_timeout: float = 5.0) -> None:
        self._url = _parse(url)
        self._inode: int | None = None
        self._closed = False
        self._busy_timeout = busy_timeout
        self.backend = self._url.get_backend_name()
        self.path = sqlite_path(url)
        if self.path is None:
            self._engine = _postgresql_engine(self._url, busy_timeout)
        else:
            self._engine = _sqlite_engine(self._url, self.path, busy_timeout)
        self._readers = DaemonThreads(_READERS, name="database-read")
        self._writer = DaemonThreads(1, name="database-write")

    def __repr__(self) -> str:
        return f"Database({self._url.render_as_string(hide_password=True)!r})"

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work(connection, ...)` returns, in a transaction that sees one state of the database.

        Raises:
            StorageUnavailable: the database cannot answer.
        """

        def transaction() -> T:
            with self._connection(sqlite_begin="BEGIN", isolation_level="REPEATABLE READ") as connection:
                return work(connection, *args, **kwargs)

        return await self._readers.run(transaction)

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work(connection, ...)` returns, in a transaction that is committed unless it raises.

        Raises:
            StorageUnavailable: the database cannot take it; nothing was written.
        """

        def transaction() -> T:
            with self.writing() as connection:
                return work(connection, *args, **kwargs)

        return await self._writer.run(transaction)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Write in the caller's thread: a transaction that is committed when the block ends, unless it raises.

        Raises:
            StorageUnavailable: the database cannot take it; nothing was written.
        """
        with self._connection(sqlite_begin="BEGIN IMMEDIATE") as connection:
            yield connection
            connection.commit()

    async def aclose(self) -> None:
        """End transactions under way, waiting for a lock's time at most, and close every connection."""
        await self._readers.aclose(grace=self._busy_timeout)
        await self._writer.aclose(grace=self._busy_timeout)
        self._closed = True
        self._engine.dispose()

    @contextmanager
    def _connection(self, **options: Any) -> Iterator[Connection]:
        if self.path is not None:
            options.pop("isolation_level", None)  # SQLite has one level
            self._follow_file(self.path)
        try:
            with self._engine.connect() as connection:
                connection.execution_options(**options)
                try:
                    yield connection
                finally:
                    if self._closed and not connection.invalidated:
                        connection.detach()  # its pool is gone, and would keep it open
        except _CALLERS_FAULT as error:
            if not _schema_is_missing(error):
                raise
            raise StorageUnavailable("the database has no tables yet; run: orouter db upgrade") from error
        except (SQLAlchemyError, OSError) as error:
            raise StorageUnavailable(f"the database cannot answer: {_reason(error)}") from error

    def _follow_file(self, path: Path) -> None:
        """Detect a file that was deleted or replaced: writes to the old one would be lost silently."""
        inode = _inode_of(path)
        if self._inode is not None and self._inode != inode:
            self._engine.dispose()
        self._inode = inode


def _inode_of(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError as error:
        raise StorageUnavailable(f"the database file {path} is gone") from error


def _reason(error: Exception) -> str:
    """Return the driver's own words, without the statement."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__


def _schema_is_missing(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == "42P01"


def _postgresql_engine(url: URL, timeout: float) -> Engine:
    if find_spec("psycopg") is None:
        raise ConfigError("PostgreSQL needs a driver: pip install 'ollama-router-server[postgres]'")
    return create_engine(
        url,
        hide_parameters=True,
        pool_size=5,
        max_overflow=5,
        pool_timeout=timeout,
        pool_pre_ping=True,
        connect_args={"connect_timeout": max(1, round(timeout)), **_DEAD_PEER},
    )


def _sqlite_file(path: Path) -> str:
    return f"file:{quote(str(path))}"


def _mode_of(url: URL) -> str:
    """By default `rw`: a missing file is an error here; only a migration creates one."""
    return str(url.query.get("mode", "rw"))


def _sqlite_engine(url: URL, path: Path, busy_timeout: float) -> Engine:
    file_url = url.set(database=_sqlite_file(path), query={"mode": _mode_of(url), "uri": "true"})
    engine = create_engine(
        file_url,
        hide_parameters=True,
        poolclass=QueuePool,
        pool_timeout=busy_timeout,
        connect_args={"timeout": busy_timeout, "check_same_thread": False},
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: sqlite3 would leave DDL out of transactions
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
