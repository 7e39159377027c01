"""Opening the database for one command."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from ollama_router_cli.sources.settings_source import Settings, read_settings
from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.audit_log import Actor, AuditLog
from ollama_router_server.storage.database import Database, describe_url
from ollama_router_server.storage.group_store import GroupStore
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.token_key import find_token_prover, token_key_path
from ollama_router_server.storage.upgrade import prepare_database
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import SystemClock, machine_name

__all__ = ["open_audit", "open_database", "open_groups", "open_log", "open_users", "operator", "run_with"]

Store = TypeVar("Store")
Result = TypeVar("Result")


def run_with(
    open_store: Callable[[Settings], AbstractAsyncContextManager[Store]],
    config: Path | None,
    environment: str | None,
    action: Callable[[Store], Awaitable[Result]],
) -> tuple[Settings, Result]:
    """Run an action on a store of the database that a command's options select.

    Raises:
        ConfigError, StorageUnavailable: see `open_database`.
    """
    settings = read_settings(config, environment)
    results: list[Result] = []

    # Return nothing: asyncio's Ctrl-C handler may print the task, and its result with it.
    async def run() -> None:
        async with open_store(settings) as store:
            results.append(await action(store))

    asyncio.run(run())
    return settings, results[0]


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database of the settings; a SQLite file is created and upgraded, PostgreSQL must be up to date.

    Raises:
        ConfigError: the URL names an unsupported database, or its schema is of another release.
        StorageUnavailable: the database cannot be reached.
    """
    url = settings.database_url
    try:
        await prepare_database(url)
        async with aclosing(Database(url)) as database:
            yield database
    except StorageUnavailable as error:
        raise StorageUnavailable(f"{error.message}; the database is {describe_url(url)}") from error


@asynccontextmanager
async def open_users(settings: Settings) -> AsyncIterator[UserStore]:
    """Open the users of the settings' database."""
    async with open_database(settings) as database:
        prover = find_token_prover(token_key_path(settings.database_url, settings.variables))
        yield UserStore(database, clock=SystemClock(), prover=prover, actor=operator())


@asynccontextmanager
async def open_groups(settings: Settings) -> AsyncIterator[GroupStore]:
    """Open the groups of the settings' database."""
    async with open_database(settings) as database:
        yield GroupStore(database, clock=SystemClock(), actor=operator())


@asynccontextmanager
async def open_audit(settings: Settings) -> AsyncIterator[AuditLog]:
    """Open the audit trail of the settings' database."""
    async with open_database(settings) as database:
        yield AuditLog(database, clock=SystemClock())


def operator() -> Actor:
    """Return the account that runs this command; under `sudo` the original one."""
    name = os.environ.get("SUDO_USER") or _account()
    return Actor(name[:100], "cli", machine_name())


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's uid without a name; KeyError before Python 3.13
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


@asynccontextmanager
async def open_log(settings: Settings) -> AsyncIterator[RequestLog]:
    """Open the request log of the settings' database."""
    async with open_database(settings) as database:
        yield RequestLog(database)
