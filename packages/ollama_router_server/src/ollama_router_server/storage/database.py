"""One database: its URL, its connections, its transactions.

SQLite runs in WAL mode with `synchronous=NORMAL`: a killed process loses no committed transaction; a power failure may
lose the last commits but never corrupts the file.
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
# Otherwise a vanished server would block the writing thread; with these, libpq detects it after ten seconds.
_DEAD_PEER = {"tcp_user_timeout": 10_000, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
# The statement or a value is wrong; a retry would not help.
_CALLERS_FAULT = (IntegrityError, SqlDataError, ProgrammingError)


def database_url_of(config: Config, environment: Mapping[str, str]) -> str:
    """Return `OROUTER_DATABASE_URL`, else the config's `database_url`, else a file's in this user's data directory.

    It may contain a password.
    """
    return (
        environment.get("OROUTER_DATABASE_URL") or config.database_url or sqlite_url(user_folder() / "router.sqlite3")
    )


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string(hide_password=False)


def describe_url(url: str) -> str:
    """Return the URL for display and logs, with passwords hidden, including those in its query."""
    try:
        return without_password(make_url(url).render_as_string(hide_password=True))
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
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
        ConfigError: the URL's database is not supported, or its driver is not installed.
    """
    parsed = _parse(url)
    return Path(str(parsed.database)).absolute() if parsed.get_backend_name() == "sqlite" else None


def create_sqlite_file(path: Path) -> None:
    """Create the file and its folder, readable only by their owner, and switch it to WAL, which persists.

    Raises:
        StorageUnavailable: the file cannot be created or is not a SQLite database.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(path, timeout=5.0)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except (OSError, sqlite3.Error) as error:
        raise StorageUnavailable(f"cannot open the database {path}: {error}") from error


class Database:
    """Connections to one database, opened on demand.

    A transaction is a function of a connection. It runs in a thread, from begin to commit, even if the waiting task is
    cancelled. Writes run one at a time, up to five reads in parallel.

    Args:
        url: a SQLAlchemy URL; `sqlite` and `postgresql` get the driver this package uses.
        busy_timeout: seconds to wait for a lock (SQLite) or a connection (PostgreSQL).

    Raises:
        ConfigError: the URL's database is not supported.
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
        """Return what `work(connection, ...)` returns, in a transaction with one snapshot of the database.

        Raises:
            StorageUnavailable: the database cannot answer.
        """

        def transaction() -> T:
            with self._connection(sqlite_begin="BEGIN", isolation_level="REPEATABLE READ") as connection:
                return work(connection, *args, **kwargs)

        return await self._readers.run(transaction)

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work(connection, ...)` returns; commit unless it raises.

        Raises:
            StorageUnavailable: the database cannot write; nothing was written.
        """

        def transaction() -> T:
            with self.writing() as connection:
                return work(connection, *args, **kwargs)

        return await self._writer.run(transaction)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Write in the caller's thread: commit when the block ends, unless it raises.

        Raises:
            StorageUnavailable: the database cannot write; nothing was written.
        """
        with self._connection(sqlite_begin="BEGIN IMMEDIATE") as connection:
            yield connection
            connection.commit()

    async def aclose(self) -> None:
        """Wait up to `busy_timeout` for running transactions, then close every connection."""
        await self._readers.aclose(grace=self._busy_timeout)
        await self._writer.aclose(grace=self._busy_timeout)
        self._closed = True
        self._engine.dispose()

    @contextmanager
    def _connection(self, **options: Any) -> Iterator[Connection]:
        if self.path is not None:
            options.pop("isolation_level", None)  # SQLite has a single level
            self._follow_file(self.path)
        try:
            with self._engine.connect() as connection:
                connection.execution_options(**options)
                try:
                    yield connection
                finally:
                    if self._closed and not connection.invalidated:
                        connection.detach()  # its pool is disposed of, and would leave it open
        except _CALLERS_FAULT as error:
            if not _schema_is_missing(error):
                raise
            raise StorageUnavailable("the database has no tables yet; run: orouter db upgrade") from error
        except (SQLAlchemyError, OSError) as error:
            raise StorageUnavailable(f"the database cannot answer: {_reason(error)}") from error

    def _follow_file(self, path: Path) -> None:
        """Detect a deleted or replaced file: writes to the old one would be lost silently."""
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
    """Return the driver's message, without the statement."""
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


def _sqlite_engine(url: URL, path: Path, busy_timeout: float) -> Engine:
    mode = str(url.query.get("mode", "rw"))  # not `rwc`: only an upgrade creates a missing file
    file_url = url.set(database=f"file:{quote(str(path))}", query={"mode": mode, "uri": "true"})
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
    connection.isolation_level = None  # `_begin_sqlite` sends BEGIN: sqlite3 would leave DDL out of transactions
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
