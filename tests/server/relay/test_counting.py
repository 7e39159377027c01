"""What a stream cost is known, whether or not its client asked for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "stream": True}
PATHS = ["/v1/chat/completions", "/v1/completions"]


def chunks(text: str) -> list[dict[str, Any]]:
    """The chunks of a stream."""
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_whose_client_did_not_ask_is_counted(tmp_path: Path, path: str) -> None:
    """The server is asked; the client gets what it would have got, byte for byte."""
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=7) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        answer = await client.post(path, json=ASK)
        (row,) = await router.rows()
        (sent,) = sim.requests_to(path)
    assert sent.json["stream_options"] == {"include_usage": True}
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in chunks(answer.text))
    assert row.completion_tokens == 7
    assert row.prompt_tokens > 0
    assert not row.tokens_estimated


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_asked_gets_the_counts(tmp_path: Path, path: str) -> None:
    """Its request is sent as it is."""
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=7) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        answer = await client.post(path, json={**ASK, "stream_options": {"include_usage": True}})
        (row,) = await router.rows()
    last = chunks(answer.text)[-1]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 7)
    assert row.completion_tokens == 7


@pytest.mark.parametrize("translated", [False, True])
async def test_a_host_that_refuses_the_option_is_not_asked(tmp_path: Path, translated: bool) -> None:
    """Its stream is counted by its pieces, and the row says so."""
    stream = (
        b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n' * 6 + b"data: [DONE]\n\n"
    )
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        hosted = server_entry(sim, protocol="http", api="openai", models={"gpt-4": MODEL}, stream_usage=False)
        config = {"external_hosts": {"paid": hosted}, "model_config": {"explicit_assignments": {"gpt-4": "paid"}}}
        async with running_router(tmp_path, {"one": server_entry(sim)}, **config) as router, router.client() as client:
            head = (("content-type", "text/event-stream"),)
            sim.misbehave(Answer(status=200, body=stream, headers=head), path="/v1/chat/completions")
            answer = await client.post(
                "/api/chat" if translated else "/v1/chat/completions", json={**ASK, "model": "gpt-4"}
            )
            (row,) = await router.rows()
        (sent,) = sim.requests_to("/v1/chat/completions")
    assert answer.status_code == 200
    assert "stream_options" not in sent.json
    assert (row.completion_tokens, row.tokens_estimated) == (6, True)


async def test_a_length_that_a_host_declares_does_not_outlive_the_chunk(tmp_path: Path) -> None:
    """A host may send a stream as one body of known length: what is taken out of it would be missed."""
    kept = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    counts = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":1}}\n\n'
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.misbehave(Answer(status=200, body=kept + counts + b"data: [DONE]\n\n"), path="/v1/chat/completions")
        answer = await client.post("/v1/chat/completions", json=ASK)
        (row,) = await router.rows()
    assert answer.content == kept + b"data: [DONE]\n\n"
    assert (row.prompt_tokens, row.completion_tokens) == (4, 1)


async def test_an_answer_that_is_translated_whole_says_what_was_cached(tmp_path: Path) -> None:
    """Its counts are known before its head is written."""
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
    message = {"role": "assistant", "content": "a"}
    reply = {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        hosted = server_entry(sim, protocol="http", api="openai", models={"gpt-4": MODEL})
        config = {
            "external_hosts": {"paid": hosted},
            "external_hosts_for": "all",
            "model_config": {"explicit_assignments": {"gpt-4": "paid"}},
        }
        async with running_router(tmp_path, {"one": server_entry(sim)}, **config) as router, router.client() as client:
            sim.misbehave(Answer(status=200, body=json.dumps(reply).encode()), path="/v1/chat/completions")
            answer = await client.post("/api/chat", json={**ASK, "model": "gpt-4", "stream": False})
            (row,) = await router.rows()
    assert answer.headers["x-router-cached-tokens"] == "4"
    assert (row.prompt_tokens, row.cached_tokens) == (9, 4)


async def test_cached_and_reasoning_tokens_reach_the_row(tmp_path: Path) -> None:
    """As the host tells them."""
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "a"}}], "usage": usage}).encode()
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.misbehave(Answer(status=200, body=body), path="/v1/chat/completions")
        await client.post("/v1/chat/completions", json={**ASK, "stream": False})
        (row,) = await router.rows()
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.reasoning_tokens) == (9, 4, 3, 2)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/chat", {"done": True, "prompt_eval_count": 9, "prompt_eval_cached_count": 4, "eval_count": 2}),
        ("/v1/chat/completions", {"usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}}),
        ("/v1/messages", {"usage": {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 2}}),
    ],
)
async def test_a_passing_answer_says_what_came_from_the_cache(tmp_path: Path, path: str, said: dict[str, Any]) -> None:
    """The head waits for a whole answer's body, which is passed on as it is."""
    body = json.dumps({"model": MODEL, **said}).encode()
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.misbehave(Answer(status=200, body=body), path=path)
        answer = await client.post(path, json={**ASK, "stream": False, "max_tokens": 5})
        (row,) = await router.rows()
    assert answer.content == body
    assert answer.headers["x-router-cached-tokens"] == "4"
    assert (row.prompt_tokens, row.cached_tokens) == (9, 4)
