"""`orouter logs tail|export|stats`: what comes out for people, for pipes and for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import time

import anyio
import pytest

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.upgrade import upgrade_database
from support.records import make_record

NOW = time.time()


@pytest.fixture
def rows(cli, tmp_path):
    """Three requests, one of them an error with a text that a spreadsheet would run."""
    url = f"sqlite:///{tmp_path}/router.sqlite3"

    async def fill() -> None:
        await upgrade_database(url)
        database = Database(url)
        await RequestLog(database).insert(
            [
                make_record(0, started_at=NOW - 7_200),
                make_record(1, started_at=NOW - 7_100, user="bob", status=502, error="=cmd|' /C calc'!A0"),
                make_record(2, started_at=NOW - 60, speaker="webui"),
            ]
        )
        await database.aclose()

    anyio.run(fill)


def test_tail_shows_the_last_rows_oldest_first(cli, rows):
    """With filters; JSON is one object a line."""
    result = cli("logs", "tail", "--no-follow", "--lines", "2", "--json")
    assert [json.loads(line)["id"] for line in result.out.splitlines()] == ["request-1", "request-2"]
    assert "bob" in cli("logs", "tail", "--no-follow", "--errors").out
    assert cli("logs", "tail", "--no-follow", "--lines", "0").out == ""


def test_export_as_csv_has_a_heading_and_no_formulas(cli, rows):
    """A cell that begins like a formula gets an apostrophe first."""
    table = list(csv.DictReader(io.StringIO(cli("logs", "export").out)))
    assert [row["id"] for row in table] == ["request-0", "request-1", "request-2"]
    assert table[1]["error"].startswith("'=cmd")
    assert table[0]["error"] == ""
    assert [row["speaker"] for row in table] == ["", "", "webui"]


def test_export_as_json_lines_filters(cli, rows):
    """As every other command over the log."""
    for arguments in (("--format", "jsonl"), ("--json",)):
        lines = cli("logs", "export", *arguments, "--user", "bob", "--since", "1d").out.splitlines()
        assert [json.loads(line)["id"] for line in lines] == ["request-1"]


def test_stats_have_bars_over_time(cli, rows):
    """The longest for the busiest hours; the numbers are in JSON."""
    shown = cli("logs", "stats").out
    assert "since" in shown
    assert "#" in shown
    hours = cli("logs", "stats", "--json").json()["by_hour"]
    assert sum(hour["requests"] for hour in hours) == 3
    assert cli("logs", "stats", "--user", "bob", "--json").json()["by_hour"][0]["requests"] == 1
    assert cli("logs", "stats", "--user", "nobody").code == 0


def test_db_check_says_where_a_database_stands(cli, rows):
    """0 when it is of this release; 1 when there is none, and none is made."""
    assert cli("db", "check").code == 0
    assert cli("db", "check", "--json").json()["up_to_date"] is True


def test_db_check_makes_no_database(cli, tmp_path):
    """A look is only a look."""
    assert cli("db", "check").code == 1
    assert not (tmp_path / "router.sqlite3").exists()
