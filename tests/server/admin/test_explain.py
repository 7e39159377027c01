"""`/router/explain` over HTTP: the library's own answer, from what a running router knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.routing.explanation import Question, explain
from ollama_router_core.testing import OllamaSimulator, model
from server.console.test_pages import signed_in
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"


async def test_http_gives_the_library_s_answer(tmp_path: Path) -> None:
    """The same JSON, with the length of the line besides."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two)}) as router,
        router.client(router.admin_token) as admin,
    ):
        asked = {"model": MODEL, "context": 8192, "prompt_tokens": 500, "need": "tools", "all_strategies": "true"}
        answer = (await admin.get("/router/explain", params=asked)).json()
        question = Question(model=MODEL, context=8192, prompt_tokens=500, needs=frozenset({"tools"}))
        services = router.services
        expected = explain(
            question, services.fleet.snapshot, services.config, now=services.clock.monotonic(), all_strategies=True
        )
    assert answer.pop("waiting") == 0
    assert answer == expected


async def test_a_user_is_looked_up(tmp_path: Path) -> None:
    """Known users are told whether they may; an unknown one is an error, not a guess."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        known = await admin.get("/router/explain", params={"model": MODEL, "user": "alice"})
        unknown = await admin.get("/router/explain", params={"model": MODEL, "user": "nobody"})
    assert (known.json()["user"], known.json()["allowed"]) == ("alice", True)
    assert 400 <= unknown.status_code < 500


async def test_another_type_of_kv_cache_is_asked_for(tmp_path: Path) -> None:
    """One that Ollama has; the page of the model says the same numbers, and keeps what was chosen."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        asked = {"model": MODEL, "context": 32_768}
        own, other, wrong = [
            await admin.get("/router/explain", params={**asked, "kv_type": kind}) for kind in ("", "q4_0", "q5_0")
        ]
        browser = await signed_in(router, router.admin_token)
        page = (await browser.get(f"/console/models/{MODEL}?context=32768&kv_type=q4_0")).text
        await browser.aclose()
    (row,), (before,) = other.json()["candidates"], own.json()["candidates"]
    assert row["memory"]["bytes"] < before["memory"]["bytes"]
    assert (wrong.status_code, "kv_type must be one of" in wrong.text) == (400, True)
    assert f"{row['memory']['bytes'] / 1024**3:.2f}</td>" in page
    assert '<option value="q4_0" selected>' in page
