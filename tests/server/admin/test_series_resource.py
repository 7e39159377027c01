"""Requests, waiting and first tokens, step by step: of minutes and of hours, without gaps, and no request twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin.views.series import HOURS, series_of_hours, series_of_minutes
from ollama_router_server.storage.log_hours import HourSums
from ollama_router_server.telemetry.last_hour import LastHour, minutes_of
from server.console.test_pages import signed_in
from support.records import make_record
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio
NOW = 1_700_000_040.0
CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}]}


def test_minutes_tell_rates_waiting_and_first_tokens() -> None:
    """Twelve requests in the minute before, each of which waited for 5 s: one waits on the average."""
    hour = LastHour()
    for number in range(12):
        hour.add(
            make_record(
                number, started_at=NOW - 80.0, total_ms=10_000.0, queue_ms=5_000.0, ttft_ms=400.0 if number else 9_000.0
            )
        )
    view = series_of_minutes(minutes_of(hour.rows(), NOW), NOW)
    assert (len(view.steps), view.step_seconds) == (60, 60)
    (step,) = [one for one in view.steps if one.requests]
    assert (step.requests, step.per_second, step.waiting) == (12, 0.2, 1.0)
    assert step.ttft_p50_ms == pytest.approx(400, rel=0.05)
    assert step.ttft_p95_ms == pytest.approx(9_000, rel=0.05)
    assert view.sentence.startswith("12 requests, none failed; first token after ")


@given(st.sampled_from(["day", "week"]), st.dictionaries(st.integers(0, 167), st.integers(1, 900), max_size=20))
def test_hours_are_without_gaps(span: str, counts: dict[int, int]) -> None:
    """As many steps as the span has hours, the one that runs last; each hour of it once."""
    last = int(NOW // 3_600) * 3_600
    hours = [
        HourSums(start=last - ago * 3_600, requests=n, errors=0, completion_tokens=n, first_token={100: n})
        for ago, n in sorted(counts.items(), reverse=True)
        if ago < HOURS[span]  # type: ignore[index]
    ]
    view = series_of_hours(span, hours, NOW)  # type: ignore[arg-type]
    assert len(view.steps) == HOURS[view.span] <= 720
    assert [one.start for one in view.steps] == list(range(last - 3_600 * (len(view.steps) - 1), last + 1, 3_600))
    assert sum(one.requests for one in view.steps) == sum(one.requests for one in hours)
    assert {one.ttft_p95_ms for one in view.steps if one.requests} <= {100.0}
    assert all(one.waiting is None for one in view.steps)


async def test_the_log_s_hours_are_those_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON and page agree; the page has a chooser, and says so where the log cannot be read."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        now = router.services.clock.wall()
        await router.services.request_log.insert(
            [
                make_record(1, started_at=now - 5 * 3_600, ttft_ms=120.0, status=200, error=None),
                make_record(2, started_at=now - 50 * 3_600, ttft_ms=250.0, status=500, error="gone"),
                make_record(3, started_at=now - 400 * 3_600),
            ]
        )
        week, day, hour = [
            (await admin.get("/router/series", params={"span": span})).json() for span in ("week", "day", "hour")
        ]
        assert [sum(one["requests"] for one in view["steps"]) for view in (week, day, hour)] == [2, 1, 0]
        assert (day["ttft_p50_ms"], week["ttft_p95_ms"]) == (120.0, 250.0)
        assert sum(one["failed"] for one in week["steps"]) == 1
        assert (await admin.get("/router/series?span=year")).status_code == 400
        assert (await client.get("/router/series")).status_code == 403
        browser = await signed_in(router, router.admin_token)
        page = (await browser.get("/console/now?span=week")).text
        assert "Last 7 days" in page
        told = "2 requests, 1 failed or lost their client; first token after 120 ms, of 95 in 100 within 250 ms."
        assert told in page
        assert '<a href="?span=week#hour" aria-current="true">' in page
        assert "No request has ended in the last hour" in (await browser.get("/console/now")).text

        async def away(*_: object) -> None:
            raise StorageUnavailable("the database is away")

        monkeypatch.setattr(router.services.request_log, "hours", away)
        monkeypatch.setattr("ollama_router_server.admin.series_resource._KEPT", 0.0)
        assert "cannot be read now" in (await browser.get("/console/now?span=day")).text
        await browser.aclose()
