"""The request log: what goes in comes out, and the figures over it."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_stats import Percentiles, UsageRow
from ollama_router_server.storage.request_log import RequestLog
from support.records import make_record

pytestmark = pytest.mark.anyio


@pytest.fixture
def log(database: Database) -> RequestLog:
    """An empty log."""
    return RequestLog(database)


async def ids(log: RequestLog, limit: int = 50, **fields: object) -> list[str]:
    """The ids of the rows that a filter lets through."""
    chosen = LogFilter(**fields)  # type: ignore[arg-type]
    return [record.id.removeprefix("request-") for record in await log.list(chosen, limit=limit)]


async def test_a_row_comes_out_as_it_went_in(log: RequestLog) -> None:
    """Every field, filled or not."""
    full = RequestRecord(
        id="a", started_at=1.25, user="alice", client="::1", method="POST", path="/api/chat",
        speaker="webui", model_asked="m", model_served="m:latest", server="big", status=200, attempts=2, streamed=True,
        queue_ms=0.5, queue_position=3, expected_wait_ms=1.5, ttft_ms=2.5, total_ms=3.5, load_ms=4.5,
        connect_ms=0.25, prefill_ms=1.25, decode_ms=2.25, decision="{}",
        prompt_tokens=2**40, completion_tokens=7, cached_tokens=6, cache_write_tokens=5, reasoning_tokens=4,
        tokens_estimated=True, num_ctx=8192, bytes_in=2**40, bytes_out=9,
        reason="größter 🦙", error_code="upstream_timeout", error="server big was silent",
    )  # fmt: skip
    bare = RequestRecord(
        id="b", started_at=2.0, user=None, client=None, method="GET", path="/", status=401, total_ms=0.0
    )
    await log.insert([full, bare])
    assert await log.list(LogFilter()) == (bare, full)


@pytest.mark.parametrize("count", [1, 2, 9, 10, 61, 163])
async def test_rows_of_a_batch_come_out_as_they_went_in(log: RequestLog, count: int) -> None:
    """However many there are, and whichever fields are empty."""
    rows = [
        make_record(
            number,
            model_served=None if number % 3 else "m:latest",
            error="cut" if number == count - 1 else None,
            status=500 if number == 0 else 200,
            attempts=number % 2,
            load_ms=1.5,
        )
        for number in range(count)
    ]
    await log.insert(rows)
    assert await log.list(LogFilter(), limit=1_000) == tuple(reversed(rows))


async def test_newest_first_and_limited(log: RequestLog) -> None:
    """By time, whatever the order of writing."""
    await log.insert([make_record(number) for number in (2, 0, 3, 1)])
    assert await ids(log) == ["3", "2", "1", "0"]
    assert await ids(log, limit=2) == ["3", "2"]


async def test_filters(log: RequestLog) -> None:
    """Each alone, and together."""
    await log.insert(
        [
            make_record(0),
            make_record(1, user="bob"),
            make_record(2, model_asked="gpt", model_served="gpt-oss:20b"),
            make_record(3, server="small"),
            make_record(4, status=404),
            make_record(5, error="cut"),
        ]
    )
    assert await ids(log, user="bob") == ["1"]
    assert await ids(log, model="gpt") == ["2"]
    assert await ids(log, model="gpt-oss:20b") == ["2"]
    assert await ids(log, server="small") == ["3"]
    assert await ids(log, errors=True) == ["5", "4"]
    assert await ids(log, since=1_004.0) == ["5", "4"]
    assert await ids(log, before=1_001.0) == ["0"]
    assert await ids(log, user="alice", errors=True, since=1_005.0) == ["5"]


async def test_a_text_is_found_wherever_it_stands(log: RequestLog) -> None:
    """In names, path, reason and error, in small letters or capitals; marks of a pattern are themselves."""
    await log.insert(
        [
            make_record(0, user="Bob"),
            make_record(6, speaker="Webui"),
            make_record(1, model_served="gpt-oss:20b"),
            make_record(2, error="CUDA error"),
            make_record(3, path="/v1/responses"),
            make_record(4, reason="b stands in for a; least loaded"),
            make_record(5, error_code="queue_full", reason="100%"),
        ]
    )
    for text, found in [
        ("bob", "0"),
        ("webui", "6"),
        ("GPT-oss", "1"),
        ("cuda", "2"),
        ("responses", "3"),
        ("queue_f", "5"),
        ("%", "5"),
    ]:
        assert await ids(log, text=text) == [found], text
    assert await ids(log, text="request-4") == await ids(log, ending="fallback") == ["4"]


async def test_a_search_looks_at_so_many_rows_and_goes_on_from_there(database: Database) -> None:
    """A page says how far it has looked; the next ones find the rest, each row once, those of one moment, too."""
    log = RequestLog(database, searched=4)
    await log.insert(
        [make_record(number, started_at=float(number // 2), server=f"s{number % 5}") for number in range(20)]
    )
    found: list[str] = []
    page = await log.page(LogFilter(server="s0"))
    assert page.searched_back_to == 8.0
    for _ in range(9):
        found += [record.id for record in page.records]
        if page.next is None:
            break
        page = await log.page(LogFilter(server="s0"), after=page.next, limit=1)
    assert found == [f"request-{number}" for number in (15, 10, 5, 0)]
    assert (await log.page(LogFilter(user="alice"))).searched_back_to is None


async def test_writing_a_batch_again_changes_nothing(log: RequestLog, database: Database) -> None:
    """A batch whose commit's answer was lost is sent again, with rows that came meanwhile."""
    await log.insert([make_record(0)])
    await log.insert([make_record(0, status=500), make_record(1)], again=True)
    assert [record.status for record in await log.list(LogFilter())] == [200, 200]
    assert (await RequestLog(database, few_rows=0).stats(LogFilter())).requests == 2


async def test_use_of_models_by_whatever_name(log: RequestLog) -> None:
    """Names that mean the same model are one; hours outside, and requests without a model, are not counted."""
    hour = 3_600.0
    rows = [(0, "m:latest"), (1, "m"), (1, "M:latest"), (2, "m"), (9, "other"), (1, None)]
    await log.insert(
        [
            make_record(number, started_at=(1_000 + at) * hour, model_asked=name, model_served=name)
            for number, (at, name) in enumerate(rows)
        ]
    )
    use = await log.use_of_models(since=1_001 * hour, before=1_008 * hour)
    assert use == {canonical_name("m"): (3, 1_002 * hour)}


async def test_stats_of_an_empty_log(log: RequestLog) -> None:
    """No rows, no figures, no division by zero."""
    stats = await log.stats(LogFilter())
    assert (stats.requests, stats.errors, stats.dropped, stats.by_user) == (0, 0, 0, ())
    assert stats.total_ms == Percentiles(p50=None, p95=None, p99=None)


async def test_stats_count_and_sum_by_user_model_and_server(log: RequestLog) -> None:
    """The busiest first; a row without a server is listed under None."""
    await log.insert(
        [
            make_record(0, prompt_tokens=10, completion_tokens=1),
            make_record(1, prompt_tokens=10, status=500),
            make_record(2, user="bob", model_served=None, model_asked="gpt", server=None, status=404),
        ]
    )
    stats = await log.stats(LogFilter())
    assert (stats.requests, stats.errors, stats.prompt_tokens, stats.completion_tokens) == (3, 2, 20, 1)
    assert stats.by_user == (
        UsageRow(name="alice", requests=2, errors=1, prompt_tokens=20, completion_tokens=1),
        UsageRow(name="bob", requests=1, errors=1, prompt_tokens=0, completion_tokens=0),
    )
    assert [row.name for row in stats.by_model] == ["llama3.1:8b", "gpt"]
    assert [row.name for row in stats.by_server] == ["big", None]
    assert (await log.stats(LogFilter(user="bob"))).requests == 1


@pytest.mark.parametrize("count", [1, 2, 3, 20, 100, 101])
async def test_percentiles_are_by_nearest_rank(log: RequestLog, count: int) -> None:
    """The smallest value that at least p of 100 rows stay within; compared with a sorted list."""
    values = [float(number * 7 % count) for number in range(count)]
    await log.insert([make_record(n, total_ms=value, ttft_ms=None) for n, value in enumerate(values)])
    stats = await log.stats(LogFilter())
    ordered = sorted(values)
    expected = [ordered[-(-count * percent // 100) - 1] for percent in (50, 95, 99)]
    assert [stats.total_ms.p50, stats.total_ms.p95, stats.total_ms.p99] == expected
    assert stats.ttft_ms.p50 is None


async def test_dropped_rows_are_part_of_the_figures(log: RequestLog) -> None:
    """Rows and drops together are all requests there were."""
    await log.note_dropped(3, now=2_000.0)
    await log.note_dropped(4, now=3_000.0)
    assert (await log.stats(LogFilter())).dropped == 7
    assert (await log.stats(LogFilter(since=2_500.0))).dropped == 4
    assert (await log.stats(LogFilter(before=2_500.0))).dropped == 3


@pytest.mark.parametrize("batch", [1, 3, 100])
async def test_cleanup_deletes_what_is_older(log: RequestLog, batch: int) -> None:
    """Exactly the rows before the moment, whatever the size of a batch."""
    await log.insert([make_record(number) for number in range(10)])
    assert await log.cleanup(before=1_006.0, batch=batch) == 6
    assert await ids(log) == ["9", "8", "7", "6"]
    assert await log.cleanup(before=1_006.0, batch=batch) == 0


async def test_a_batch_with_a_bad_row_is_refused_whole(log: RequestLog) -> None:
    """The caller decides what to do with the others."""
    with pytest.raises((DBAPIError, UnicodeError, sqlite3.Error, psycopg.Error)):
        await log.insert([make_record(0), make_record(1, error="\ud800")])
    assert await ids(log) == []


@pytest.mark.parametrize("place", [0, 299, 599])
async def test_a_row_that_is_refused_takes_its_whole_batch_with_it(
    log: RequestLog, database: Database, place: int
) -> None:
    """Rows before and after it, in the same statement or another, and what they add to the totals."""
    rows = [make_record(number, bytes_out=2**63 if number == place else number) for number in range(600)]
    with pytest.raises((OverflowError, DBAPIError, psycopg.Error)):
        await log.insert(rows)
    assert await log.last_number() == 0
    assert (await RequestLog(database, few_rows=0).stats(LogFilter())).requests == 0
    await log.insert([row for row in rows if row.bytes_out < 2**63])
    assert (await RequestLog(database, few_rows=0).stats(LogFilter())).requests == 599


async def test_rows_of_many_hours_in_one_batch(log: RequestLog, database: Database) -> None:
    """As an import writes them; each hour has totals of its own."""
    await log.insert([make_record(number, started_at=3_600.0 * number) for number in range(700)])
    assert len(await RequestLog(database, few_rows=0).history(LogFilter())) == 700
    assert (await log.stats(LogFilter())).requests == 700
