"""Refused requests fill neither the log nor the database, and say where they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.relay import refusals as module
from ollama_router_server.relay.refusals import Refusals
from support.eventually import eventually
from support.records import make_record
from support.router import running_router, server_entry
from support.storage import FakeClock

pytestmark = pytest.mark.anyio


async def test_a_stranger_s_line_has_address_and_route(tmp_path: Path) -> None:
    """So that fail2ban and an admin can act; the route is the table's, not what the stranger typed."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as client,
    ):
        with capture_logs() as entries:
            for _ in range(40):
                assert (await client.get("/api/tags", headers={"x-api-key": "wrong"})).status_code == 401
        refused = [entry for entry in entries if entry["event"] == "refused"]
    assert len(refused) == 5
    assert {(entry["client"], entry["path"], entry["code"]) for entry in refused} == {
        ("127.0.0.1", "/api/tags", "invalid_credential")
    }


async def test_3000_refused_requests_of_a_user_leave_a_few_rows(tmp_path: Path) -> None:
    """3,000 long names wrote 31 MB; 20 rows of each user in 10 seconds are written."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        for number in range(100):
            answer = await client.post("/api/chat", json={"model": f"{number}" + "x" * 250, "messages": []})
            assert answer.status_code in {400, 404}
        served = await client.post("/api/chat", json={"model": "llama3.1:8b", "messages": [], "stream": False})
        assert served.status_code == 200
        rows = await router.rows(21)
    assert len(rows) <= 61  # 20 in each period of 10 seconds, however slow the machine, and the one that was served


@pytest.fixture
def many() -> Callable[..., list[RequestRecord]]:
    """Refused requests of one user or address."""

    def make(count: int, **values: object) -> list[RequestRecord]:
        return [make_record(0, status=403, attempts=0, error_code="forbidden", **values) for _ in range(count)]

    return make


async def test_what_is_left_out_is_counted(
    many: Callable[..., list[RequestRecord]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By user and by address, once the period is over, also if nobody else is refused by then."""
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.01)
    clock = FakeClock()
    refusals = Refusals(clock)
    with capture_logs() as entries:
        kept = [refusals.keeps(row) for row in many(3_000, user="alice", client="192.0.2.1")]
        for row in many(3_000, user=None, client="192.0.2.2"):
            refusals.note_stranger(row, "invalid_credential")
        clock.advance(10.0)
        await eventually(lambda: len([entry for entry in entries if "left_out" in entry["event"]]) == 2)
    assert sum(kept) == 20
    assert sum(entry["event"] == "refused" for entry in entries) == 5
    told = {entry["event"]: entry for entry in entries}
    assert (told["refused_left_out"]["client"], told["refused_left_out"]["count"]) == ("192.0.2.2", 2_995)
    assert (told["refused_rows_left_out"]["user"], told["refused_rows_left_out"]["count"]) == ("alice", 2_980)


async def test_what_a_server_answered_is_always_kept() -> None:
    """Also its errors, and what the router itself could not do: only refusals are many at no cost."""
    refusals = Refusals(FakeClock())
    rows = [
        make_record(0, user="alice", status=status, attempts=1, error_code="upstream") for status in (200, 404, 502)
    ]
    rows.append(make_record(0, user="alice", status=503, attempts=0, error_code="no_server"))
    assert all(refusals.keeps(row) for row in rows * 100)
