"""A runner under suspicion is asked for one token, and what comes of it decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.fleet.stalls import Wait
from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = canonical_name("llama3.1:8b")


def suspect(router: RunningRouter) -> None:
    """Let a request have waited there for hours, and the server be polled."""
    fleet = router.services.fleet
    asked = RouteRequest(model=MODEL, model_text="llama3.1:8b", stream=True)
    fleet.state.runners.suspect("one", [Wait("one", asked, fleet.now() - 9999.0)], fleet.now())
    assert is_out(router)
    fleet.measure_soon("one")


def is_out(router: RunningRouter) -> bool:
    """Whether the model is out on that server."""
    return router.services.fleet.health.models.until("one", MODEL) is not None


async def test_a_runner_that_answers_is_asked_again(tmp_path: Path) -> None:
    """By one token, as the router's own request; no user's request is tried."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as one,
        running_router(tmp_path, {"one": server_entry(one)}, load_probe=True) as router,
    ):
        suspect(router)
        await eventually(lambda: not is_out(router))
        (sent,) = one.requests_to("/api/generate")
    assert json.loads(bytes(sent.body))["options"] == {"num_predict": 1}


async def test_a_runner_that_does_not_answer_stays_out(tmp_path: Path) -> None:
    """With what its server said to it, behind what was seen before."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as one,
        running_router(tmp_path, {"one": server_entry(one)}, load_probe=True) as router,
    ):
        one.misbehave(Answer(status=500, body=b'{"error":"runner is gone"}'), path="/api/generate")
        suspect(router)
        models = router.services.fleet.health.models
        await eventually(lambda: "load probe: 500 runner is gone" in models.to_json("one", 0.0)[MODEL]["error"])
        assert is_out(router)


async def test_no_token_is_asked_for_by_default(tmp_path: Path) -> None:
    """It could load a model in another one's place."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as one,
        running_router(tmp_path, {"one": server_entry(one)}) as router,
    ):
        suspect(router)
        polls = len(one.requests_to("/api/version"))
        await eventually(lambda: len(one.requests_to("/api/version")) > polls)
        assert not one.requests_to("/api/generate")
        assert is_out(router)
