"""Usage as CSV: every line once, what a spreadsheet would compute is text, one export of a token at a time."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ollama_router_core.errors import LimitExceeded
from ollama_router_server.admin.csv_lines import csv_lines
from ollama_router_server.admin.usage_export_resource import Exports
from ollama_router_server.storage import log_series
from support.records import make_record
from support.router import RunningRouter, running_router

pytestmark = pytest.mark.anyio

DAY = 86_400
FIRST = 20_000 * DAY


@pytest.fixture
async def router(tmp_path: Path) -> AsyncIterator[RunningRouter]:
    """A router whose log has three days of three users."""
    async with running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as one:
        rows = [
            make_record(
                number, started_at=FIRST + number % 3 * DAY + 3_600.0 * (number % 2), user=user, server="big",
                model_served="llama3.2:3b", prompt_tokens=10, completion_tokens=2,
            )
            for number, user in enumerate(["alice", "=cmd|' /C calc'!A0", None] * 4)
        ]  # fmt: skip
        await one.services.request_log.insert(rows)
        yield one


async def exported(router: RunningRouter, **asked: object) -> list[dict[str, str]]:
    """The lines of an export."""
    async with router.client(router.admin_token) as admin:
        answer = await admin.get("/router/usage.csv", params=asked)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.DictReader(answer.text.splitlines()))


async def test_each_day_and_name_has_a_line(router: RunningRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the pieces are in which they are read; a name that is a formula is text."""
    monkeypatch.setattr(log_series, "AT_ONCE", 2)
    found = await exported(router)
    assert [(line["from"], line["user"]) for line in found] == [
        ("2024-10-04", "alice"), ("2024-10-05", "'=cmd|' /C calc'!A0"), ("2024-10-06", ""),
    ]  # fmt: skip
    assert sum(int(line["requests"]) for line in found) == 12
    assert sum(int(line["prompt_tokens"]) for line in found) == 120


async def test_hours_and_bounds(router: RunningRouter) -> None:
    """The first step is whole, the step that begins with the end is left out."""
    found = await exported(router, by="server", step="hour", since=FIRST + DAY + 1_800, before=FIRST + 2 * DAY)
    assert [(line["from"], line["requests"]) for line in found] == [
        ("2024-10-05T00:00Z", "2"), ("2024-10-05T01:00Z", "2"),
    ]  # fmt: skip


async def test_hosts_and_days_and_what_they_cost(tmp_path: Path) -> None:
    """Hosts are those of the config, by day there is no name; cost has its currency."""
    far = {"host": "127.0.0.1", "port": 9, "models": {"m": {"input_price": 2.0}}}
    async with running_router(tmp_path, {"big": {"host": "127.0.0.1", "port": 9}}, external_hosts={"far": far}) as one:
        times = {"started_at": float(FIRST), "prompt_tokens": 10}
        rows = [
            make_record(1, server="far", cost_micros=1_500_000, **times),
            make_record(2, server="big", gpu_ms=4_000, status=499, **times),
        ]
        await one.services.request_log.insert(rows)
        (host,), (day,) = await exported(one, by="host"), await exported(one, by="day")
        assert (host["host"], host["cost"], host["currency"], host["gpu_ms"]) == ("far", "1.500000", "USD", "0")
        assert (day["day"], day["requests"], day["gpu_ms"], day["wasted_ms"]) == ("", "2", "4000", "4000")
        async with one.client(one.admin_token) as admin:
            told = (await admin.get("/router/usage", params={"order": "gpu_ms", "before": FIRST + DAY})).json()
            assert (await admin.get("/router/usage", params={"order": "name"})).status_code == 400
    assert [line["name"] for line in told["by_server"]] == ["big", "far"]
    assert [(line["name"], line["cost_micros"]) for line in told["by_host"]] == [("far", 1_500_000)]
    assert [(line["name"], line["wasted_ms"]) for line in told["by_day"]] == [("2024-10-04", 4_000)]
    assert (told["currency"], told["gpu_ms"]) == ("USD", 4_000)


async def test_users_count_for_the_group_of_now(router: RunningRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file and in the totals alike; whoever is in no group, or is gone, is a line without a name."""
    monkeypatch.setattr(log_series, "AT_ONCE", 1)
    async with router.client(router.admin_token) as admin:
        await admin.post("/router/groups", json={"name": "staff"})
        await admin.patch("/router/users/alice", json={"group": "staff"})
        totals = (await admin.get("/router/usage", params={"since": 0})).json()["by_group"]
    assert [(line["name"], line["requests"]) for line in totals] == [(None, 8), ("staff", 4)]
    by_day = await exported(router, by="group")
    assert [(line["from"], line["group"], line["requests"]) for line in by_day] == [
        ("2024-10-04", "staff", "4"), ("2024-10-05", "", "4"), ("2024-10-06", "", "4"),
    ]  # fmt: skip
    by_hour = await exported(router, by="group", step="hour")
    assert sum(int(line["requests"]) for line in by_hour) == 12


async def test_a_list_has_no_more_lines_than_were_asked_for(router: RunningRouter) -> None:
    """The first of its order; how many are beyond is told, and the parts of steps are as many as ever."""
    async with router.client(router.admin_token) as admin:
        asked = {"since": FIRST, "before": FIRST + 3 * DAY, "by": "user", "bucket": "day"}
        whole = (await admin.get("/router/usage", params=asked)).json()
        some = (await admin.get("/router/usage", params={**asked, "limit": 1})).json()
        assert (await admin.get("/router/usage", params={"limit": 0})).status_code == 400
    assert whole["left_out"] == {"user": 0}
    assert some["by_user"] == whole["by_user"][:1]
    assert some["left_out"] == {"user": len(whole["by_user"]) - 1}
    assert some["steps"] == whole["steps"]
    assert len(some["steps"][0]["parts"]) > 1


@pytest.mark.parametrize("asked", [{"by": "planet"}, {"step": "week"}, {"since": "soon"}, {"before": "-1"}])
async def test_what_cannot_be_meant_is_refused(router: RunningRouter, asked: dict[str, str]) -> None:
    """400, with a text that says what may be said."""
    async with router.client(router.admin_token) as admin:
        answer = await admin.get("/router/usage.csv", params=asked)
    assert answer.status_code == 400
    assert next(iter(asked)) in answer.json()["error"]


async def test_a_token_has_one_export_at_a_time() -> None:
    """The second is refused until the first has ended, or nobody takes its lines any more."""
    exports = Exports()

    async def lines() -> AsyncIterator[str]:
        yield "a\n"
        yield "b\n"

    first = exports.only_one(1, lines())
    exports.check(1)
    assert await anext(first) == b"a\n"
    with pytest.raises(LimitExceeded):
        exports.check(1)
    exports.check(2)
    await first.aclose()
    exports.check(1)


async def test_cells_that_begin_formulas_are_text() -> None:
    """Also those that begin with what spreadsheets skip; numbers stay numbers."""
    cells = ["=1", "+1", "-1", "@x", "\t=1", "a,b", None, -5]
    assert csv_lines([cells]) == "'=1,'+1,'-1,'@x,'\t=1,\"a,b\",,-5\n"
