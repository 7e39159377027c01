"""The router's own requests under another strategy: two worlds, and no verdict where today's is foretold badly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin.views.whatif import whatif_view
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def found(**changes: Any) -> dict[str, Any]:
    """What a replay told."""
    logged = {"completion_p50": 10.0, "completion_p95": 40.0, "completion_p99": 60.0, "loads": 94}
    other = {
        "completion_p50": 4.0, "completion_p95": 9.0, "completion_p99": 12.0, "loads": 31, "moved": 30, "refused": 0,
        "moves": [{"model": "m", "from": "a", "to": "b", "requests": 30}],
        "worse": [{"kind": "user", "name": "ada", "before": 2.0, "after": 5.0}],
    }  # fmt: skip
    return {"requests": 100, "measured_p50": 11.0, "worlds": [logged, other], **changes}


def test_a_verdict_names_both_worlds_and_its_own_error() -> None:
    """In one sentence."""
    view = whatif_view("fastest", 1, found())
    assert view.verdict
    assert [(one.name, one.after) for one in view.worse] == [("ada", 5.0)]
    assert view.sentence == (
        "With fastest, p50 4.0 s instead of 10.0 s, p95 9.0 s instead of 40.0 s, 31 loads instead of 94, "
        "30 of 100 requests elsewhere (of the last day, ±9%)."
    )


def test_there_is_no_verdict_where_today_is_foretold_badly() -> None:
    """More than a quarter off: the numbers stay, the sentence says how far off they are."""
    view = whatif_view("fastest", 7, found(measured_p50=5.0))
    assert not view.verdict
    assert view.sentence.startswith("No verdict: of the last 7 days")
    assert "100% off" in view.sentence


async def test_own_requests_are_replayed_in_a_process_of_their_own(tmp_path: Path) -> None:
    """The page and the route tell the same; an unknown strategy is refused; a second question waits for the first."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=0.01) as one,
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=0.01) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two, priority=2)}) as router,
        router.client(router.admin_token) as admin,
    ):
        for _ in range(3):
            await admin.post("/api/chat", json=CHAT)
        await router.rows(3)
        answers = await asyncio.gather(*[admin.get("/router/whatif?strategy=fastest&days=1") for _ in range(2)])
        assert sorted(answer.status_code for answer in answers) == [200, 503]
        (view,) = [answer.json() for answer in answers if answer.status_code == 200]
        assert (view["requests"], view["strategy"], view["unplaced"]) == (3, "fastest", 0)
        assert view["loads_before"] >= 1
        refused = await admin.get("/router/whatif?strategy=best")
        assert (refused.status_code, "priority_with_memory" in refused.json()["error"]) == (400, True)
