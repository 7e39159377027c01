"""The router's own requests under another strategy: two worlds, and no verdict where today's is foretold badly."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.errors import Overloaded
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.simulation import Change, replay
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin import whatif
from ollama_router_server.admin.views.whatif import WorldView, whatif_view
from ollama_router_server.storage.log_days import STEP
from support.records import make_record
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": True}


FASTEST = WorldView(name="fastest", strategy="fastest", add=None, add_gpu=None, off=None, max_wait=None, options="")
FIRST = 20_000 * 86_400
OURS, PERSON = {"x-console": "1"}, {"accept": "text/html"}


def found(**changes: Any) -> dict[str, Any]:
    """What a replay told."""
    logged = {
        "completion_p50": 10.0, "completion_p95": 40.0, "completion_p99": 60.0, "loads": 94, "refused": 2,
        "utilisation": 0.9, "models": {"a": 3.0, "b": 30.0},
    }  # fmt: skip
    other = {
        "completion_p50": 4.0, "completion_p95": 9.0, "completion_p99": 12.0, "loads": 31, "moved": 30, "refused": 0,
        "moves": [{"model": "m", "from": "a", "to": "b", "requests": 30}], "utilisation": 0.5, "models": {"b": 4.0},
        "worse": [{"kind": "user", "name": "ada", "before": 2.0, "after": 5.0, "refused": 3}],
    }  # fmt: skip
    return {"requests": 100, "measured_p50": 11.0, "worlds": [logged, other], **changes}


def test_a_verdict_names_both_worlds_and_its_own_error() -> None:
    """In one sentence."""
    view = whatif_view(FASTEST, "the last day", found())
    assert view.verdict
    assert [(one.name, one.after, one.refused) for one in view.worse] == [("ada", 5.0, 3)]
    assert [(one.model, one.before, one.after) for one in view.models] == [("b", 30.0, 4.0), ("a", 3.0, None)]
    assert view.sentence == (
        "With fastest, p50 4.0 s instead of 10.0 s, p95 9.0 s instead of 40.0 s, 31 loads instead of 94, "
        "30 of 100 requests elsewhere (of the last day, ±9%)."
    )


def test_there_is_no_verdict_where_today_is_foretold_badly() -> None:
    """More than a quarter off: the numbers stay, the sentence says how far off they are."""
    view = whatif_view(FASTEST, "the last 7 days", found(measured_p50=5.0))
    assert not view.verdict
    assert view.sentence.startswith("No verdict: of the last 7 days")
    assert "100% off" in view.sentence


def test_a_world_says_what_is_different() -> None:
    """In words, and as options for a shell."""
    world = whatif.OtherWorld(strategy="fastest", add_gpu="l40s", off="old box", max_wait=60)
    assert str(world) == "fastest and one more l40s and without old box and waits of at most 60 s"
    assert world.options() == "--strategies fastest --add-gpu l40s --off 'old box' --max-wait 60"


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
        assert (view["requests"], view["world"]["name"], view["unplaced"]) == (3, "fastest", 0)
        assert view["loads_before"] >= 1
        refused = await admin.get("/router/whatif?strategy=best")
        assert (refused.status_code, "priority_with_memory" in refused.json()["error"]) == (400, True)


async def test_a_replay_that_dies_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ended its process, the router did not fail."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(Overloaded, match="ended without an answer"):
        await whatif._answered(b"")


async def test_a_day_of_another_world_lies_below_the_real_one(tmp_path: Path) -> None:
    """With the figures of `orouter replay`, by the same steps and tones; for admins, of servers that are enabled."""
    rows = [
        make_record(
            number, started_at=FIRST + 20 * STEP + 2.5 * number, server="one", model_served="Qwen3:8b", streamed=True,
            ttft_ms=1_000.0 + 1_500.0 * number, queue_ms=1_500.0 * number, total_ms=4_000.0 + 1_500.0 * number,
            prompt_tokens=1_000, completion_tokens=100, load_ms=0.0,
        )
        for number in range(60)
    ]  # fmt: skip
    servers: dict[str, dict[str, object]] = {
        "one": {"host": "127.0.0.1", "port": 9, "max_memory_gb": 48},
        "two": {"host": "127.0.0.1", "port": 9, "enabled": False},
    }
    async with (
        running_router(tmp_path, servers) as router,
        router.client(router.admin_token) as admin,
    ):
        await router.services.request_log.insert(rows)
        query = {"day": "2024-10-04", "strategy": "fastest", "add": "one", "max_wait": ""}
        view = (await admin.get("/router/history/whatif", params=query)).json()
        config = router.services.config.model_copy(update={"routing_strategy": "fastest"})
        told = replay(rows, FleetSnapshot(servers=router.services.fleet.servers), config, change=Change(more=("one",)))
        assert view["answer"]["after"]["p50"] == round(told.others[-1].summary.completion_p50, 3)
        assert view["answer"]["before"]["p50"] == round(told.logged.summary.completion_p50, 3)
        assert view["answer"]["sentence"].startswith("With fastest and one more one, p50 ")
        assert view["answer"]["sentence"].endswith("30 of 60 requests elsewhere (of 2024-10-04, ±7%).")
        blocks = [(lane["server"], one["model"], one["requests"]) for lane in view["lanes"] for one in lane["blocks"]]
        assert [block[:2] for block in blocks] == [("one", "Qwen3:8b"), ("one-2", "Qwen3:8b")]
        assert sum(block[2] for block in blocks) == 60
        assert {moment["step"] for moment in view["moments"]} <= {20, 21}
        assert view["answer"]["world"]["options"] == "--strategies fastest --add one"
        for wrong in (
            {"strategy": "best"},
            {"add": "two"},
            {"off": "two"},
            {"off": "one"},
            {"add_gpu": "abacus"},
            {"max_wait": "0"},
            {"max_wait": "nan"},
            {"day": "yesterday"},
        ):
            assert (await admin.get("/router/history/whatif", params=wrong)).status_code == 400
        await admin.post("/console/session", json={"token": router.admin_token}, headers=OURS)
        page = (await admin.get("/console/history", params=query, headers=PERSON)).text
        assert page.count("data-strip ") == page.count("data-minute-told>") == 2
        assert f"<h2>{view['answer']['sentence']}</h2>" in page
        assert page.count('<rect class="tone0" x="20"') == 3
        made = (await admin.post("/router/users", json={"name": "vic", "role": "viewer"})).json()
        await router.services.authenticator.refresh()
        async with router.client(made["token"]) as viewer:
            await viewer.post("/console/session", json={"token": made["token"]}, headers=OURS)
            assert (await viewer.get("/console/history", params=query, headers=PERSON)).status_code == 403
            plain = (await viewer.get("/console/history", params={"day": "2024-10-04"}, headers=PERSON)).text
            assert "Lay another world below" not in plain
