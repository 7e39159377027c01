"""`count_tokens` and `input_tokens`: by the word of a host that counts, else estimated and labelled."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
COUNTS = ["/v1/messages/count_tokens", "/v1/responses/input_tokens"]
WORDS = ["the", "server", "answers", "quickly", "although", "it", "waited", "for", "many", "requests", "then", "rested"]


def asked(path: str, text: str, name: str = MODEL, **more: Any) -> dict[str, Any]:
    """A request for the count of one text."""
    said = {"input": text} if path.endswith("input_tokens") else {"messages": [{"role": "user", "content": text}]}
    return {"model": name, **said, **more}


def hosted(sim: OllamaSimulator, api: str, **settings: Any) -> dict[str, Any]:
    """A config with the model `paid` at an external host."""
    return {
        "external_hosts": {"host": server_entry(sim, protocol="http", api=api, models={"paid": MODEL}, **settings)},
        "model_config": {"explicit_assignments": {"paid": "host"}},
    }


async def count(router: RunningRouter, path: str, text: str, **more: Any) -> tuple[int, str | None]:
    """The number of tokens, and what says that it is an estimate."""
    async with router.client() as client:
        answer = await client.post(path, json=asked(path, text, **more))
    assert answer.status_code == 200, answer.text
    return answer.json()["input_tokens"], answer.headers.get("x-router-estimate")


@pytest.mark.parametrize("path", COUNTS)
async def test_estimates_become_those_of_the_server(tmp_path: Path, path: str) -> None:
    """After twenty counted requests 95 % are within 10 %; the answer says how many it rests on."""
    chance = random.Random(7)  # noqa: S311 - repeatable
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=1) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        assert (await count(router, path, "hello there"))[1] == "samples=0"
        for _ in range(20):
            text = " ".join(chance.choices(WORDS, k=chance.choice([20, 80, 400])))
            said = {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": False}
            assert (await client.post("/api/chat", json=said)).status_code == 200
        words = [chance.choice([30, 100, 500]) for _ in range(20)]
        found = [await count(router, path, " ".join(chance.choices(WORDS, k=number))) for number in words]
    within = [abs(tokens / number - 1) <= 0.1 for (tokens, _), number in zip(found, words, strict=True)]
    assert sum(within) >= 19
    assert {label for _, label in found} == {"samples=20"}


async def test_a_host_that_counts_is_asked(tmp_path: Path) -> None:
    """Under the model's name there; its word is passed on and is no estimate."""
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        sim.misbehave(Answer(status=200, body=b'{"input_tokens":4711}'), path="/v1/messages/count_tokens")
        async with running_router(tmp_path, {}, **hosted(sim, "anthropic")) as router:
            assert await count(router, COUNTS[0], "hello", name="paid") == (4711, None)
        (sent,) = sim.requests_to("/v1/messages/count_tokens")
    assert sent.json["model"] == MODEL


@pytest.mark.parametrize("status", [404, 405, 500])
async def test_a_host_that_cannot_count_is_estimated_for(tmp_path: Path, status: int) -> None:
    """An agent that asks before each turn goes on."""
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        sim.misbehave(Answer(status=status, body=b"{}"), path="/v1/messages/count_tokens")
        async with running_router(tmp_path, {}, **hosted(sim, "anthropic")) as router:
            tokens, label = await count(router, COUNTS[0], "hello there, how are you?", name="paid")
    assert (0 < tokens < 50, label) == (True, "samples=0")


async def test_what_a_host_says_against_the_request_is_passed_on(tmp_path: Path) -> None:
    """A wrong key or a wrong request ends a session sooner than a number that means nothing."""
    refused = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        sim.misbehave(Answer(status=400, body=json.dumps(refused).encode()), path="/v1/messages/count_tokens")
        async with running_router(tmp_path, {}, **hosted(sim, "anthropic")) as router, router.client() as client:
            answer = await client.post(COUNTS[0], json=asked(COUNTS[0], "hello", name="paid"))
    assert (answer.status_code, answer.json()) == (400, refused)


@pytest.mark.parametrize("path", COUNTS)
async def test_a_host_of_another_dialect_is_not_asked(tmp_path: Path, path: str) -> None:
    """OpenAI's chat completions have no such route."""
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        async with running_router(tmp_path, {}, **hosted(sim, "openai")) as router:
            assert (await count(router, path, "hello", name="paid"))[1] == "samples=0"
        assert not sim.requests_to(path)


@pytest.mark.parametrize("path", COUNTS)
async def test_a_model_that_nobody_has_is_told(tmp_path: Path, path: str) -> None:
    """In the dialect of the route."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        answer = await client.post(path, json=asked(path, "hi", name="nobody-has:1b"))
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


async def test_an_alias_counts_as_its_model(tmp_path: Path) -> None:
    """The name that Claude Code asks for may be any."""
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        config = {"model_config": {"aliases": {"claude-haiku-4-5": MODEL}}}
        async with running_router(tmp_path, {"one": server_entry(sim)}, **config) as router:
            assert (await count(router, COUNTS[0], "hello", name="claude-haiku-4-5"))[0] > 0


async def test_counting_takes_no_slot_and_nothing_of_a_limit(tmp_path: Path) -> None:
    """It is a question, not a request to a model."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        await count(router, COUNTS[0], "hello")
        assert not sim.requests_to("/v1/messages/count_tokens")
        (row,) = await router.rows()
    assert (row.path, row.status, row.server, row.prompt_tokens) == (COUNTS[0], 200, None, None)
