"""An upgrade of PostgreSQL that others are in the way of, and that must not be in theirs."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import psycopg
import pytest

from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.schema_lock import LockPatience
from ollama_router_server.storage.upgrade import check_database, known_revisions, upgrade_database
from support.next_releases import next_release

pytestmark = pytest.mark.anyio

_BEFORE = known_revisions()[-1]
_SHORT = LockPatience(wait=0.1, pause=0.05, tries=2)


def with_parameter(url: str, name: str, value: str) -> str:
    """The URL with one more parameter of its connections."""
    parts = urlsplit(url)
    return parts._replace(query=urlencode([*parse_qsl(parts.query), (name, value)], quote_via=quote)).geturl()


@pytest.fixture
async def old_postgresql(empty_postgresql: str) -> AsyncIterator[str]:
    """A database of a release whose next one, which is this one here, changes the log."""
    await upgrade_database(empty_postgresql)
    with next_release("colours_expand"):
        yield empty_postgresql


@pytest.fixture
async def of_plain_role(empty_postgresql: str) -> AsyncIterator[str]:
    """The same, owned by a role without privileges, which has its connections."""
    with psycopg.connect(empty_postgresql) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'router_plain'").fetchone() is None:
            connection.execute("CREATE ROLE router_plain")
        connection.execute("GRANT ALL ON SCHEMA public TO router_plain")
    url = with_parameter(empty_postgresql, "options", "-c role=router_plain")
    await upgrade_database(url)
    with next_release("colours_expand"):
        yield url


async def test_an_upgrade_behind_a_long_query_gives_up_and_says_who_is_in_the_way(old_postgresql: str) -> None:
    """Nothing is changed, and after it nobody waits for a table."""
    with psycopg.connect(with_parameter(old_postgresql, "application_name", "export")) as holder:
        holder.execute("SELECT count(*) FROM request_log")
        told: list[str] = []
        held = rf"in use by process {holder.info.backend_pid} of \w+ \(export\) for \d+ s; nothing was changed"
        with pytest.raises(StorageUnavailable, match=held):
            await upgrade_database(old_postgresql, tell=told.append, patience=_SHORT)
        assert len(told) == 1
        with psycopg.connect(old_postgresql) as writer:
            writer.execute("SET lock_timeout = '5s'")
            writer.execute("DELETE FROM request_log")
    assert (await check_database(old_postgresql)).current == _BEFORE


async def test_sessions_of_others_are_named_to_a_role_without_privileges(
    of_plain_role: str, empty_postgresql: str
) -> None:
    """PostgreSQL hides since when they run, but not who they are."""
    with psycopg.connect(with_parameter(empty_postgresql, "application_name", "export")) as holder:
        holder.execute("SELECT count(*) FROM request_log")
        held = rf"in use by process {holder.info.backend_pid} of \w+ \(export\); nothing was changed"
        with pytest.raises(StorageUnavailable, match=held):
            await upgrade_database(of_plain_role, patience=_SHORT)


async def test_writers_go_on_while_an_upgrade_waits_and_it_succeeds_once_the_query_is_over(
    old_postgresql: str,
) -> None:
    """The rows of routers wait for one try of the upgrade, and not for the long query."""
    paused, written = threading.Event(), threading.Event()

    def write() -> None:
        paused.wait(60)
        with psycopg.connect(old_postgresql) as writer:
            writer.execute("DELETE FROM request_log")
        written.set()

    writing = threading.Thread(target=write)
    writing.start()
    with psycopg.connect(old_postgresql) as holder:
        holder.execute("SELECT count(*) FROM request_log")

        def tell(_sentence: str) -> None:
            paused.set()
            if written.is_set():
                holder.rollback()

        patience = LockPatience(wait=0.1, pause=0.05, tries=600)
        assert (await upgrade_database(old_postgresql, tell=tell, patience=patience)).up_to_date
    writing.join()
    assert written.is_set()


async def test_sqlite_asks_for_no_lock(tmp_path: Path) -> None:
    """One try is enough: its writers are alone anyway."""
    url = f"sqlite:///{tmp_path / 'r.sqlite3'}"
    assert (await upgrade_database(url, patience=LockPatience(wait=0.0, pause=0.0, tries=1))).up_to_date
