"""The router's own requests under another strategy: two worlds, and no verdict where today's is foretold badly."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.errors import Overloaded
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation.replay import replay
from ollama_router_core.simulation.what_if import Change
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin import whatif_resource
from ollama_router_server.admin.other_world import OtherWorld
from ollama_router_server.admin.views.whatif import WorldView, whatif_view
from ollama_router_server.storage.log_days import STEP
from support.eventually import eventually_async
from support.records import make_record
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": True}


SAME = {"add": None, "add_gpu": None, "off": None, "put": None, "num_parallel": None, "max_wait": None}
FASTEST = WorldView(name="fastest", strategy="fastest", options="", **SAME)
FIRST = 20_000 * 86_400
OURS, PERSON = {"x-console": "1"}, {"accept": "text/html"}


def figures(p95: float, **changes: Any) -> dict[str, Any]:
    """A model in one world."""
    return {"requests": 50, "refused": 0, "loads": 1, "p50": 1.0, "p95": p95, "mean": p95 / 2, "busy": 0.5, **changes}


def found(**changes: Any) -> dict[str, Any]:
    """What a replay told."""
    logged = {
        "completion_p50": 10.0, "completion_p95": 40.0, "completion_p99": 60.0, "loads": 94, "refused": 2,
        "utilisation": 0.9, "by_model": {"a": figures(3.0), "b": figures(30.0)},
    }  # fmt: skip
    other = {
        "completion_p50": 4.0, "completion_p95": 9.0, "completion_p99": 12.0, "loads": 31, "moved": 30, "refused": 0,
        "moves": [{"model": "m", "from": "a", "to": "b", "requests": 30}], "utilisation": 0.5,
        "by_model": {"b": figures(4.0)},
        "worse": [{"kind": "user", "name": "ada", "before": 2.0, "after": 5.0, "refused": 3}],
    }  # fmt: skip
    return {"requests": 100, "measured_p50": 11.0, "worlds": [logged, other], **changes}


def test_a_verdict_names_both_worlds_and_its_own_error() -> None:
    """In one sentence."""
    view = whatif_view(FASTEST, "the last day", found(), "orouter replay")
    assert view.verdict
    assert [(one.name, one.after, one.refused) for one in view.worse] == [("ada", 5.0, 3)]
    first, second = view.models
    assert (first.model, first.before and first.before.p95, first.after and first.after.p95) == ("b", 30.0, 4.0)
    assert (second.model, second.before and second.before.loads, second.after) == ("a", 1, None)
    assert view.sentence == (
        "With fastest, p50 4.0 s instead of 10.0 s, p95 9.0 s instead of 40.0 s, 31 loads instead of 94, "
        "30 of 100 requests elsewhere (of the last day, ±9%); most of it from b; "
        "worst for ada (3 more refused)."
    )


def test_there_is_no_verdict_where_today_is_foretold_badly() -> None:
    """More than a quarter off: the numbers stay, the sentence says how far off they are."""
    view = whatif_view(FASTEST, "the last 7 days", found(measured_p50=5.0), "")
    assert not view.verdict
    assert view.sentence.startswith("No verdict: of the last 7 days")
    assert "100% off" in view.sentence


def test_a_world_says_what_is_different() -> None:
    """In words, and as options for a shell."""
    world = OtherWorld(strategy="fastest", add_gpu="l40s", off="old box", put="big=m:8b", num_parallel=2, max_wait=60)
    assert str(world) == (
        "fastest and one more l40s and without old box and m:8b on big and 2 slots and waits of at most 60 s"
    )
    assert world.options() == (
        "--strategies fastest --add-gpu l40s --off 'old box' --put big=m:8b --num-parallel 2 --max-wait 60"
    )


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
        [step async for step in whatif_resource._answered(b"")]


def recent(count: int) -> list[RequestRecord]:
    """Requests of the last hour for two models, of which one server is at."""
    return [
        make_record(
            number, started_at=time.time() - 3_000.0 + 20.0 * number, server="one", streamed=True, status=200,
            model_served="llama3.2:3b" if number % 3 else "qwen3:8b", ttft_ms=1_500.0, queue_ms=0.0, total_ms=6_000.0,
            prompt_tokens=1_000, completion_tokens=100, load_ms=0.0,
        )
        for number in range(count)
    ]  # fmt: skip


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """A stream's events by name."""
    return [(name, json.loads(data)) for name, data in re.findall(r"^event: (\w+)\ndata: (.*)$", text, re.MULTILINE)]


async def test_who_follows_is_told_how_far_it_is_and_then_the_same(tmp_path: Path) -> None:
    """In hundredths of all requests of all worlds; then what `/router/whatif` answers, by model, or why not."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b"), model("qwen3:8b")]) as one,
        OllamaSimulator(models=[model("llama3.2:3b")]) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await router.services.request_log.insert(recent(30))
        query = {"strategy": "fastest", "add_gpu": "24,1000,80", "put": "two=qwen3:8b", "num_parallel": "2"}
        stream = {"accept": "text/event-stream"}
        told = events((await admin.get("/router/whatif", params=query, headers=stream)).text)
        *steps, (last, view) = [one for one in told if one != ("progress", {"done": 0, "of": 0})]
        assert {name for name, _ in steps} == {"progress"}
        assert [one["done"] for _, one in steps] == sorted(one["done"] for _, one in steps)
        assert steps[-1][1] == {"done": 90, "of": 90}  # the log's world, the strategy's, the changed one
        plain = (await admin.get("/router/whatif", params=query)).json()
        assert (last, {**view, "command": ""}) == ("answer", {**plain, "command": ""})
        assert view["world"]["name"] == "fastest and one more gpu-24gib and qwen3:8b on two and 2 slots"
        after = {one["model"]: one["after"] for one in view["models"]}
        assert {name: one["requests"] for name, one in after.items()} == {"llama3.2:3b": 20, "qwen3:8b": 10}
        assert all(0 < one["p50"] <= one["p95"] and 0 < one["busy"] < 1 and one["loads"] >= 1 for one in after.values())
        wrong = events((await admin.get("/router/whatif", params={"put": "two=gone"}, headers=stream)).text)
        assert (wrong[-1][0], wrong[-1][1]["code"]) == ("error", "invalid_body")
        assert "requested models: llama3.2:3b, qwen3:8b" in wrong[-1][1]["error"]


@pytest.mark.parametrize("query", ["num_parallel=0", "days=31", "days=x", "max_wait=0", "strategy=none"])
async def test_a_query_that_cannot_be_is_refused_before_a_stream_begins(tmp_path: Path, query: str) -> None:
    """Both streams answer 400, as without one."""
    async with (
        running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
    ):
        stream = {"accept": "text/event-stream"}
        assert (await admin.get(f"/router/whatif?{query}", headers=stream)).status_code == 400
        await admin.post("/console/session", json={"token": router.admin_token}, headers=OURS)
        admin.headers.pop("authorization")
        assert (await admin.get(f"/console/whatif/events?{query}", headers=OURS)).status_code == 400


async def test_the_command_tells_the_same(tmp_path: Path) -> None:
    """It is run as it is shown, in a shell of its own."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b"), model("qwen3:8b")]) as one,
        running_router(tmp_path, {"one": server_entry(one)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await router.services.request_log.insert(recent(30))
        (tmp_path / "orouter.yml").write_text(json.dumps({"servers": {"one": server_entry(one)}}))
        view = (await admin.get("/router/whatif?strategy=fastest&add=one&max_wait=60")).json()
        program, *arguments = shlex.split(view["command"])
        assert program == "orouter"
        variables = {**os.environ, "OROUTER_DATABASE_URL": f"sqlite:///{tmp_path}/router.sqlite3"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ollama_router_cli", *arguments, "--config", "orouter.yml", "--json",
            cwd=tmp_path, env=variables, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
    told = json.loads(out)
    logged, after = told["worlds"][0], told["worlds"][-1]
    assert told["requests"] == view["requests"] == 30
    assert [view["before"][name] for name in ("p50", "p95")] == [
        logged[f"completion_{name}"] for name in ("p50", "p95")
    ]
    assert [view["after"][name] for name in ("p50", "p95")] == [after[f"completion_{name}"] for name in ("p50", "p95")]
    assert {one["model"]: one["after"] for one in view["models"]} == after["by_model"]


async def test_whoever_leaves_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is gone, and the next question is answered."""
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep 300\n")
    endless.chmod(0o700)
    async with (
        running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
    ):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(endless))
            async with admin.stream("GET", "/router/whatif", headers={"accept": "text/event-stream"}) as answer:
                assert await anext(answer.aiter_lines()) == "event: progress"
                assert (await admin.get("/router/whatif")).status_code == 503

        async def answered() -> bool:
            return (await admin.get("/router/whatif")).status_code == 200

        await eventually_async(answered)


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
        assert "--since 2024-10-04T00:00:00+00:00 --before 2024-10-05T00:00:00+00:00" in view["answer"]["command"]
        for wrong in (
            {"strategy": "best"},
            {"add": "two"},
            {"off": "two"},
            {"off": "one"},
            {"add_gpu": "abacus"},
            {"add_gpu": "24,inf,80"},
            {"add_gpu": "l40s", "add_gpu_figures": "24,1010,82.6"},
            {"add_gpu_figures": "24"},
            {"put": "one"},
            {"put": "two=m:8b"},
            {"num_parallel": "0"},
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
