"""`orouter logs`: rows, sums, cleaning up."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.request_log import RequestLog

DAY = 86_400.0


def record(number: int, *, age: float = 0.0, **fields) -> RequestRecord:
    """A row that began `age` seconds ago."""
    values = {
        "user": "alice",
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/api/chat",
        "model_asked": "llama3.1:8b",
        "server": "big",
        "status": 200,
        "total_ms": 1500.0,
        "ttft_ms": 120.0,
        "prompt_tokens": 10,
        "completion_tokens": 20,
    }
    return RequestRecord(id=f"id-{number}", started_at=time.time() - age, **{**values, **fields})


@pytest.fixture
def log(cli):
    """Write rows into the database that the commands use."""
    assert cli("db", "upgrade").code == 0

    def write(*rows: RequestRecord) -> None:
        async def insert() -> None:
            database = Database(os.environ["OROUTER_DATABASE_URL"])
            try:
                await RequestLog(database).insert(rows)
            finally:
                await database.aclose()

        asyncio.run(insert())

    return write


def test_list_has_the_newest_first(cli, log):
    """In text and in JSON; JSON is a list of rows with the record's own names."""
    log(record(1, age=50), record(2, age=10), record(3, age=90))
    rows = cli("logs", "list", "--json").json()
    assert [row["id"] for row in rows] == ["id-2", "id-1", "id-3"]
    assert {"user", "model_asked", "server", "status", "ttft_ms", "total_ms", "prompt_tokens"} <= set(rows[0])
    assert len(cli("logs", "list").out.splitlines()) == 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--user", "bob"), {"id-2"}),
        (("--model", "qwen3:8b"), {"id-3"}),
        (("--server", "small"), {"id-4"}),
        (("--errors",), {"id-5"}),
        (("--since", "12h"), {"id-1", "id-2", "id-3", "id-4", "id-5"}),
        (("--limit", "1"), {"id-1"}),
        (("--user", "nobody"), set()),
    ],
)
def test_list_can_be_narrowed(cli, log, options, expected):
    """By user, model, server, errors, time and number."""
    log(
        record(1),
        record(2, age=1, user="bob"),
        record(3, age=2, model_asked="qwen3:8b"),
        record(4, age=3, server="small"),
        record(5, age=4, status=502, error="cut"),
        record(6, age=2 * DAY),
    )
    assert {row["id"] for row in cli("logs", "list", *options, "--json").json()} == expected


def test_stats_sum_up(cli, log):
    """Counts, errors and tokens, and the same by user, model and server."""
    log(record(1), record(2, user="bob"), record(3, status=500))
    figures = cli("logs", "stats", "--json").json()
    assert (figures["requests"], figures["errors"]) == (3, 1)
    assert (figures["prompt_tokens"], figures["completion_tokens"]) == (30, 60)
    assert figures["total_ms"]["p50"] == 1500.0
    assert [(row["name"], row["requests"]) for row in figures["by_user"]] == [("alice", 2), ("bob", 1)]
    text = cli("logs", "stats").out
    assert "3 requests, 1 failed" in text
    assert "1.5 s" in text


def test_cleanup_deletes_what_is_older(cli, log):
    """30 days unless said otherwise; the newer rows stay."""
    log(record(1), record(2, age=40 * DAY), record(3, age=10 * DAY))
    assert cli("logs", "cleanup", "--yes", "--json").json() == {"deleted": 1, "days": 30}
    assert cli("logs", "cleanup", "7", stdin="DELETE\n").out == "1 row deleted\n"
    assert [row["id"] for row in cli("logs", "list", "--json").json()] == ["id-1"]


def test_cleanup_asks_first(cli, log):
    """Nothing goes without the word."""
    log(record(1, age=40 * DAY))
    assert cli("logs", "cleanup", stdin="no\n").code == 1
    assert len(cli("logs", "list", "--json").json()) == 1


def test_a_model_name_cannot_move_the_terminals_cursor(cli, log):
    """Names come from clients: control characters show as ?, in text and as escapes in JSON."""
    log(record(1, model_asked="evil\x1b[2J\nname"))
    text, rows = cli("logs", "list").out, cli("logs", "list", "--json")
    assert "\x1b" not in text + rows.out
    assert "evil?[2J?name" in text
    assert json.loads(rows.out)[0]["model_asked"] == "evil\x1b[2J\nname"


def test_an_empty_log_is_no_error(cli, log):
    """A list stays a list, a person gets a note."""
    assert cli("logs", "list", "--json").json() == []
    result = cli("logs", "list")
    assert (result.code, result.out) == (0, "")


def test_a_time_that_is_none_is_refused(cli, log):
    """With examples of what is meant."""
    result = cli("logs", "list", "--since", "yesterdayish")
    assert result.code == 2
    assert "7d" in result.err


def test_tokens_of_caches_and_estimates_are_shown(cli, log):
    """In the list by row, in the statistics as sums; an estimate is marked."""
    log(
        record(1, prompt_tokens=100, completion_tokens=20, cached_tokens=60, cache_write_tokens=30, reasoning_tokens=5),
        record(2, prompt_tokens=7, completion_tokens=9, tokens_estimated=True),
    )
    assert {"60", "~9"} <= set(cli("logs", "list").out.split())
    figures = cli("logs", "stats", "--json").json()
    told = {name: figures[name] for name in ("cached_tokens", "cache_write_tokens", "reasoning_tokens", "estimated")}
    assert told == {"cached_tokens": 60, "cache_write_tokens": 30, "reasoning_tokens": 5, "estimated": 1}
    text = cli("logs", "stats").out
    assert "60 in from a cache, 30 in written to a cache, 5 out for reasoning" in text
    assert "the tokens of 1 request are estimates" in text
