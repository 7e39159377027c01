"""/api/generate, /api/chat, /api/embed and /api/embeddings: shapes, defaults, metrics, refusals."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator

pytestmark = pytest.mark.anyio

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
HI = [{"role": "user", "content": "say hi please"}]


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    """The NDJSON lines of an answer."""
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_generate_streams_unless_told_otherwise(http: httpx.AsyncClient) -> None:
    """Without `stream` the answer is NDJSON: one token a line, then the metrics."""
    answer = await http.post("/api/generate", json={"model": "llama3.1:8b", "prompt": "one two three"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, NDJSON)
    assert answer.headers["transfer-encoding"] == "chunked"
    *tokens, last = lines(answer)
    assert [one["response"] for one in tokens[:2]] == ["word0", " word1"]
    assert len(tokens) == 16
    assert all(set(one) == {"model", "created_at", "response", "done"} and not one["done"] for one in tokens)
    assert (last["done"], last["done_reason"], last["response"]) == (True, "stop", "")
    assert (last["prompt_eval_count"], last["eval_count"]) == (3, 16)
    assert len(last["context"]) == 19


async def test_durations_are_virtual_nanoseconds(http: httpx.AsyncClient) -> None:
    """Durations follow the model's speeds, not the wall clock; a warm model's load_duration is tiny, not 0."""
    ask = {"model": "llama3.1:8b", "prompt": "one two", "stream": False}
    cold = (await http.post("/api/generate", json=ask)).json()
    warm = (await http.post("/api/generate", json=ask)).json()
    assert cold["load_duration"] == round(4_920_753_328 / 2e9 * 1e9) + 1_000_000
    assert cold["eval_duration"] == pytest.approx(16 / 81.3 * 1e9, rel=0.01)
    parts = cold["load_duration"] + cold["prompt_eval_duration"] + cold["eval_duration"]
    assert cold["total_duration"] == pytest.approx(parts, abs=2)
    assert warm["load_duration"] == 1_000_000


async def test_generate_whole(http: httpx.AsyncClient) -> None:
    """stream=false is one JSON object with the whole text."""
    ask = {"model": "llama3.1:8b", "prompt": "hi", "stream": False, "options": {"num_predict": 3}}
    answer = await http.post("/api/generate", json=ask)
    assert answer.headers["content-type"] == JSON
    assert (answer.json()["response"], answer.json()["done_reason"]) == ("word0 word1 word2", "length")


async def test_raw_generation_has_no_context(http: httpx.AsyncClient) -> None:
    """raw=true leaves `context` out."""
    ask = {"model": "llama3.1:8b", "prompt": "hi", "stream": False, "raw": True}
    assert "context" not in (await http.post("/api/generate", json=ask)).json()


async def test_chat_streams_messages(http: httpx.AsyncClient) -> None:
    """A chat chunk carries a message; the model is named as the client named it; there is no context."""
    answer = await http.post("/api/chat", json={"model": "LLAMA3.1:8B", "messages": HI})
    *tokens, last = lines(answer)
    assert tokens[0]["message"] == {"role": "assistant", "content": "word0"}
    assert {one["model"] for one in [*tokens, last]} == {"LLAMA3.1:8B"}
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["eval_count"] == 16
    assert "context" not in last


async def test_one_http_chunk_for_each_message(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """Every line is flushed: it arrives as a chunk of its own."""
    ask = {"model": "llama3.1:8b", "messages": HI, "options": {"num_predict": 4}}
    await http.post("/api/chat", json=ask)
    async with http.stream("POST", "/api/chat", json=ask) as answer:
        pieces = [piece async for piece in answer.aiter_raw()]
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert b"".join(pieces).count(b"\n") == 5


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_no_prompt_loads_the_model(sim: OllamaSimulator, http: httpx.AsyncClient, path: str) -> None:
    """An empty prompt loads: one JSON object with done_reason load, even though streaming is the default."""
    answer = await http.post(path, json={"model": "llama3.1:8b"})
    assert (answer.headers["content-type"], answer.json()["done_reason"]) == (JSON, "load")
    assert sim.loaded == ["llama3.1:8b"]


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_no_prompt_and_no_keep_alive_unloads(sim: OllamaSimulator, http: httpx.AsyncClient, path: str) -> None:
    """keep_alive 0 with an empty prompt unloads at once."""
    await http.post(path, json={"model": "llama3.1:8b"})
    answer = await http.post(path, json={"model": "llama3.1:8b", "keep_alive": 0})
    assert answer.json()["done_reason"] == "unload"
    assert sim.loaded == []


async def test_thinking_comes_first(http: httpx.AsyncClient) -> None:
    """A thinking model thinks unless told not to; its thoughts have a field of their own."""
    ask = {"model": "qwen3:8b", "messages": HI, "stream": False}
    thinking = (await http.post("/api/chat", json=ask)).json()["message"]
    assert thinking["thinking"].startswith("thought0 thought1")
    silent = (await http.post("/api/chat", json={**ask, "think": False})).json()["message"]
    assert "thinking" not in silent


async def test_tools_are_called_when_asked_for(http: httpx.AsyncClient) -> None:
    """A prompt that names a tool gets a call with arguments that fit its schema."""
    parameters = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    messages = [{"role": "user", "content": "use get_weather now"}]
    ask = {"model": "llama3.1:8b", "messages": messages, "tools": [tool], "stream": False}
    (call,) = (await http.post("/api/chat", json=ask)).json()["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    assert call["function"] == {
        "index": 0,
        "name": "get_weather",
        "arguments": {"city": "value", "days": 1},
    }
    plain = (await http.post("/api/chat", json={**ask, "messages": HI})).json()["message"]
    assert "tool_calls" not in plain


async def test_format_json_gives_json(http: httpx.AsyncClient) -> None:
    """Format json answers with a JSON object, a schema with an instance of it."""
    ask = {"model": "llama3.1:8b", "messages": HI, "stream": False}
    free = (await http.post("/api/chat", json={**ask, "format": "json"})).json()
    assert set(json.loads(free["message"]["content"])) == {"answer"}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}}}
    bound = (await http.post("/api/chat", json={**ask, "format": schema})).json()
    assert json.loads(bound["message"]["content"]) == {"n": 1, "ok": True}


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/chat", {}, 400, "model is required"),
        ("/api/generate", {}, 404, "model '' not found"),
        ("/api/embed", {}, 404, "model '' not found"),
        ("/api/embeddings", {}, 400, "model is required"),
        ("/api/chat", {"model": "a b"}, 400, "invalid model name"),
        ("/api/generate", {"model": "x@sha256:1"}, 400, "invalid model name"),
        ("/api/chat", {"model": "nope"}, 404, "model 'nope' not found"),
        ("/api/generate", {"model": "Nope:1b"}, 404, "model 'Nope:1b' not found"),
        ("/api/embed", {"model": "nope"}, 404, 'model "nope" not found, try pulling it first'),
        ("/api/embeddings", {"model": "nope"}, 404, 'model "nope" not found, try pulling it first'),
        (
            "/api/chat",
            {"model": "nomic-embed-text", "messages": HI},
            400,
            '"nomic-embed-text" does not support chat',
        ),
        (
            "/api/generate",
            {"model": "nomic-embed-text", "prompt": "x"},
            400,
            '"nomic-embed-text" does not support generate',
        ),
        (
            "/api/chat",
            {"model": "llama3.1:8b", "messages": HI, "think": True},
            400,
            '"llama3.1:8b" does not support thinking',
        ),
        (
            "/api/chat",
            {"model": "gemma3:12b", "messages": HI, "tools": [{}]},
            400,
            "registry.ollama.ai/library/gemma3:12b does not support tools",
        ),
        (
            "/api/chat",
            {"model": "llama3.1:8b", "top_logprobs": 21},
            400,
            "top_logprobs must be between 0 and 20",
        ),
        ("/api/chat", {"model": "llama3.1:8b", "keep_alive": "x"}, 400, 'time: invalid duration "x"'),
        ("/api/embed", {"model": "nomic-embed-text", "input": 5}, 400, "invalid input type"),
        (
            "/api/embed",
            {"model": "nomic-embed-text", "input": "w " * 3000, "truncate": False},
            400,
            "the input length exceeds the context length",
        ),
    ],
)
async def test_refusals_have_ollamas_status_and_text(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, text: str
) -> None:
    """Errors are a JSON object with the message as a text, before any byte of a stream."""
    answer = await http.post(path, json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": text})
    assert answer.headers["content-type"] == JSON


async def test_images_need_a_model_that_sees(http: httpx.AsyncClient) -> None:
    """Only a vision model takes images."""
    messages = [{"role": "user", "content": "what is this", "images": ["aGk="]}]
    sees = await http.post("/api/chat", json={"model": "gemma3:12b", "messages": messages})
    blind = await http.post("/api/chat", json={"model": "llama3.1:8b", "messages": messages})
    assert (sees.status_code, blind.status_code) == (200, 400)


async def test_cloud_models_are_not_looked_up_here(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """A :cloud name goes to ollama.com: 401 with a sign-in URL, or 403 when that is disabled; :local stays."""
    ask = {"model": "gpt-oss:120b-cloud", "messages": HI}
    answer = await http.post("/api/chat", json=ask)
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert answer.json()["signin_url"].startswith("https://ollama.com/")
    sim.cloud_disabled = True
    assert (await http.post("/v1/chat/completions", json=ask)).status_code == 403
    here = await http.post("/api/chat", json={"model": "llama3.1:8b:local", "messages": HI})
    assert here.status_code == 200


async def test_embed_takes_one_text_or_many(http: httpx.AsyncClient) -> None:
    """A unit vector for each input, the same for the same text, of the model's dimension."""
    ask = {"model": "nomic-embed-text", "input": ["a b", "c", "a b"]}
    answer = (await http.post("/api/embed", json=ask)).json()
    first, second, third = answer["embeddings"]
    assert first == third != second
    assert len(first) == 768
    assert math.hypot(*first) == pytest.approx(1.0, abs=1e-5)
    assert answer["prompt_eval_count"] == 5
    single = (await http.post("/api/embed", json={**ask, "input": "c", "dimensions": 3})).json()
    assert [len(one) for one in single["embeddings"]] == [3]
    empty = (await http.post("/api/embed", json={**ask, "input": []})).json()
    assert empty == {"model": "nomic-embed-text", "embeddings": []}


async def test_deprecated_embeddings_is_case_sensitive(http: httpx.AsyncClient) -> None:
    """/api/embeddings gives one vector and, unlike /api/embed, insists on the name's case."""
    ask = {"model": "nomic-embed-text", "prompt": "hi"}
    assert len((await http.post("/api/embeddings", json=ask)).json()["embedding"]) == 768
    loud = {**ask, "model": "NOMIC-embed-text"}
    assert (await http.post("/api/embeddings", json=loud)).status_code == 404
    assert (await http.post("/api/embed", json={"model": loud["model"], "input": "x"})).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "llama3.1:8b",
        "library/llama3.1:8b",
        "registry.ollama.ai/library/llama3.1:8b",
        "REGISTRY.ollama.ai/Library/LLAMA3.1:8B",
        "https://registry.ollama.ai/library/llama3.1:8b",
    ],
)
async def test_spellings_of_one_name(http: httpx.AsyncClient, name: str) -> None:
    """Defaults may be spelled out, case does not matter."""
    assert (await http.post("/api/generate", json={"model": name})).status_code == 200
