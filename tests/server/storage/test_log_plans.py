"""No page of the console reads more of the log than it shows: what the database says of how it looks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection

from ollama_router_server.storage.group_rows import read_group_page
from ollama_router_server.storage.group_steps import read_group_steps
from ollama_router_server.storage.identities import UserFilter
from ollama_router_server.storage.log_count import read_count
from ollama_router_server.storage.log_filter import Cursor, LogFilter
from ollama_router_server.storage.log_hours import read_hours
from ollama_router_server.storage.log_series import LogSeries, read_series
from ollama_router_server.storage.log_stats import read_history
from ollama_router_server.storage.log_totals import DAY, HOUR
from ollama_router_server.storage.log_writer import add_rows
from ollama_router_server.storage.recent_use import read_recent_use
from ollama_router_server.storage.request_log import select_page
from ollama_router_server.storage.user_rows import read_page
from support.storage import create_sqlite

ROWS, USERS = 40_000, 2_000
MADE = f"""
WITH RECURSIVE made(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM made WHERE n + 1 < {ROWS})
INSERT INTO request_log (id, started_at, "user", method, path, model_asked, model_served, server, status, attempts,
    streamed, total_ms, tokens_estimated, bytes_in, bytes_out)
SELECT printf('%028x', n), n, printf('user%05d', n * 7919 % {USERS}), 'POST', '/api/chat', 'm' || (n % 40),
    'm' || (n % 40), 'gpu' || (n % 12), 200, 1, 0, 100, 0, 0, 0 FROM made
"""  # noqa: S608 - numbers of this module
PEOPLE = f"""
INSERT INTO users (name, role, active, created_at, updated_at)
SELECT DISTINCT user, 'user', 1, 0, 0 FROM request_log WHERE seq <= {USERS}
"""  # noqa: S608 - as above
GROUPS = "INSERT INTO groups (name, grants, created_at, updated_at) VALUES ('apes', '{}', 0, 0), ('bees', '{}', 0, 0)"
MEMBERS = "INSERT INTO memberships (user_id, group_id) SELECT id, 1 + id % 2 FROM users"
USER = LogFilter(user="user00007")
RARE = LogFilter(model="nobody:1b", slower_than=1e9)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A log of 40,000 rows of 2,000 users, made once: what SQLite decides does not depend on how many there are."""
    path: Path = tmp_path_factory.mktemp("plans") / "router.sqlite3"
    url = create_sqlite(path)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(MADE)
        for statement in (PEOPLE, GROUPS, MEMBERS):
            raw.execute(statement)
    engine = create_engine(url)
    with engine.begin() as made:
        add_rows(made, after=0)
    with engine.connect() as connected:
        yield connected
    engine.dispose()


class Plans(list[str]):
    """How SQLite carries out each statement of a block that asks for rows."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._asked = list[tuple[str, object]]()

    def __enter__(self) -> Self:
        event.listen(self._connection, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._connection, "before_cursor_execute", self._note)
        for statement, given in self._asked:
            rows = self._connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
            self.extend(str(row[3]) for row in rows)

    def _note(
        self, _c: object, _cursor: object, statement: str, given: object, _context: object, _many: object
    ) -> None:
        self._asked.append((statement, given))

    def scans(self, table: str) -> list[str]:
        """Where all of a table is read."""
        return [plan for plan in self if plan.startswith("SCAN") and table in plan and "USING" not in plan]


@pytest.mark.parametrize("chosen", [LogFilter(), USER, RARE, LogFilter(since=5_000, before=9_000)])
@pytest.mark.parametrize("after", [None, Cursor(8_000.0, "f" * 28)], ids=["first", "next"])
def test_a_page_of_rows_is_read_by_an_index(connection: Connection, chosen: LogFilter, after: Cursor | None) -> None:
    """The newest first without sorting them; where no index helps, 2,000 rows are looked at and not all."""
    with Plans(connection) as plans:
        page = select_page(connection, chosen, after, 50, 2_000)
    assert plans.scans("request_log") == []
    assert not any("TEMP B-TREE FOR ORDER BY" in plan for plan in plans)
    assert (page.records == ()) == (chosen is RARE)


@pytest.mark.parametrize("chosen", [LogFilter(), USER, LogFilter(server="gpu1"), LogFilter(since=5_000, before=39_000)])
def test_rows_are_counted_by_the_keys_of_totals(connection: Connection, chosen: LogFilter) -> None:
    """Not by reading the log, nor the hours of thousands of users."""
    with Plans(connection) as plans:
        assert read_count(connection, chosen)
    assert plans.scans("request_log") == []
    assert plans.scans("log_totals") == []
    assert any("start=? AND dimension=?" in plan for plan in plans)


def test_a_page_of_users_reads_its_own_totals(connection: Connection) -> None:
    """Of 2,000 users on each of three days those of the page, by the key of the totals."""
    with Plans(connection) as plans:
        page = read_page(connection, UserFilter(), None, 200)
        read_recent_use(connection, [user.name for user in page.users], today=2)
    assert plans.scans("log_totals") == []
    assert any("start=? AND dimension=? AND name=?" in plan for plan in plans)


def test_hours_of_usage_are_read_without_those_of_users(connection: Connection) -> None:
    """Each hour by its key: those of thousands of users lie between them."""
    with Plans(connection) as plans:
        hours = read_history(connection, LogFilter(since=0.0))
    assert sum(hour.requests for hour in hours) == ROWS
    assert len(hours) == -(-ROWS // HOUR)
    assert any("span=? AND start=? AND dimension=?" in plan for plan in plans)
    assert connection.execute(text("SELECT count(*) FROM log_totals WHERE dimension = 'user'")).scalar_one() > USERS


def test_a_chart_reads_the_totals_of_its_names_alone(connection: Connection) -> None:
    """Those of four models, or of all servers, step by step by the key."""
    chosen = LogSeries(dimension="model", step=HOUR, since=0.0, names=("m1", "m2", "m3", "m4"))
    with Plans(connection) as plans:
        rows = read_series(connection, chosen, None)
    assert {row.name for row in rows} == {"m1", "m2", "m3", "m4"}
    assert any("span=? AND start=? AND dimension=? AND name=?" in plan for plan in plans)
    with Plans(connection) as plans:
        hours = read_hours(connection, 0, ROWS)
    assert sum(hour.requests for hour in hours) == ROWS
    assert any("span=? AND start=? AND dimension=?" in plan for plan in plans)


def test_members_of_a_group_are_found_by_the_index_of_memberships(connection: Connection) -> None:
    """Not by reading all users."""
    with Plans(connection) as plans:
        page = read_page(connection, UserFilter(group="bees"), None, 200)
    assert page.matching == USERS // 2
    assert plans.scans("users") == plans.scans("memberships") == plans.scans("log_totals") == []
    assert any("ix_memberships_group_id (group_id=?)" in plan for plan in plans)


def test_groups_are_added_up_from_the_totals_of_days(connection: Connection) -> None:
    """A week of their members, each day by its key; a member by name and number, not by reading them all for each."""
    with Plans(connection) as plans:
        page = read_group_page(connection, None, None, 200, today=0)
        steps = read_group_steps(connection, ["apes", "bees"], since=0.0, before=float(ROWS), step=DAY)
    assert sum(group.members for group in page.groups) == USERS
    assert sum(map(sum, (counts.values() for counts in steps.values()))) == ROWS
    assert plans.scans("log_totals") == plans.scans("memberships") == plans.scans("users") == []
    assert any("span=? AND start=? AND dimension=?" in plan for plan in plans)
