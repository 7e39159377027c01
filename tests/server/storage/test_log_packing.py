"""Rows made ready for SQLite: few statements, few different ones, and in slices that hold up nobody."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage import log_packing as module
from ollama_router_server.storage.log_packing import FIELDS, SLICE, pack
from support.storage import make_record

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests wrote decides nothing here."""
    monkeypatch.setattr(module, "_shapes", [])


async def statements(rows: list[RequestRecord]) -> list[str]:
    """Those that rows need, without the one for the sums."""
    return [one.statement for one in (await pack(rows))[:-1]]


async def test_a_batch_is_a_statement_for_each_slice_and_one_for_the_sums() -> None:
    """Each call of sqlite3 has to get the interpreter back from the event loop several times."""
    rows = [make_record(number) for number in range(4 * SLICE)]
    assert len(await pack(rows)) == 5
    assert len(await pack(rows[: SLICE + 1])) == 3


async def test_batches_of_nearly_the_same_size_share_a_statement() -> None:
    """It takes longer to compile one than to write its rows; what is left over of it is never written."""
    sizes = [SLICE // 2 + 1, SLICE // 2 + 20, SLICE]
    found = {(await statements([make_record(number) for number in range(size)]))[0] for size in sizes}
    assert len(found) == 1


async def test_a_rare_field_does_not_make_statements_anew() -> None:
    """Once rows with an error were written, the next few rows with and without one need no other statement."""
    rows = [make_record(number) for number in range(SLICE)]
    failed = [*rows[:-1], make_record(SLICE, status=500, error="cut")]
    found = {(await statements(some))[0] for some in (rows, failed, rows, failed)}
    assert len(found) == 2
    monotonous = [make_record(1) for _ in range(SLICE)]
    assert (await statements(monotonous))[0] in found


async def test_few_sets_of_columns_are_kept() -> None:
    """Statements are kept compiled, and each takes memory."""
    plain = make_record(0)
    rest = [name for name in FIELDS if isinstance(getattr(plain, name), int | float) and name != "started_at"]
    for name in rest:
        for other in rest:
            fields = {name: 7_000, other: 8_000, "reason": name, "error": other, "error_code": name, "path": "/"}
            await pack([plain, make_record(1, **fields)])
    assert len(module._shapes) <= 8


async def test_rows_are_made_ready_in_slices() -> None:
    """Between two of them others get their turn: a large batch delays no stream by more than a slice takes."""
    turns, done = 0, asyncio.Event()

    async def count_turns() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count_turns())
    await pack([make_record(number) for number in range(8 * SLICE)])
    done.set()
    await task
    assert turns >= 8


async def test_a_statement_is_one_of_sqlite_s_with_any_number_of_values() -> None:
    """Fewer than SQLite's own bound (32,766 since 3.32), also if every field differs from row to row."""
    with closing(sqlite3.connect(":memory:")) as connection:
        limit = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    assert (SLICE + 1) * len(FIELDS) + 1 < min(limit, 32_766)


async def test_values_are_bound_in_the_order_of_the_statement() -> None:
    """Numbered parameters with a list of values are deprecated since Python 3.12."""
    for count in (1, 3, SLICE, SLICE + 5):
        for statement, values in await pack([make_record(number, load_ms=1.5) for number in range(count)]):
            assert statement.count("?") == len(values)
            assert "?1" not in statement
