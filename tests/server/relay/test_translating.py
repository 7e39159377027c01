"""A client of one dialect reaches a model that is assigned to a host of another, over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import Answer, Cut, OllamaSimulator
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

_KEY = "sk-canary-7f21"
_THEIRS = "llama3.1:8b"
_CHAT: Mapping[str, Any] = {"model": "gpt-4", "messages": [{"role": "user", "content": "hello"}]}
_MESSAGES: Mapping[str, Any] = {**_CHAT, "max_tokens": 64}


@asynccontextmanager
async def _stage(folder: Path, **host: Any) -> AsyncIterator[tuple[RunningRouter, OllamaSimulator]]:
    """A router with a simulator as the external host `paid`, where `gpt-4` is `llama3.1:8b`."""
    async with OllamaSimulator(models=[_THEIRS], answer_tokens=8, time_scale=0.01) as simulator:
        paid = {
            **server_entry(simulator, protocol="http", api_key_env="PAID_KEY", models={"gpt-4": _THEIRS}),
            **host,
        }
        async with running_router(
            folder,
            {},
            environment={"PAID_KEY": _KEY},
            external_hosts={"paid": paid},
            model_config={"explicit_assignments": {"gpt-4": "paid"}},
        ) as router:
            yield router, simulator


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("api", "path", "credential"),
    [("openai", "/v1/chat/completions", "authorization"), ("anthropic", "/v1/messages", "x-api-key")],
)
async def test_an_ollama_client_chats_with_a_model_elsewhere(
    tmp_path: Path, api: str, path: str, credential: str
) -> None:
    """`/api/chat` streams Ollama's own lines out of another dialect's events, and the row has tokens."""
    async with _stage(tmp_path, api=api) as (router, simulator), router.client() as client:
        answer = await client.post("/api/chat", json=_CHAT)
        rows = await router.rows()
    lines = _lines(answer.text)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert len(lines) > 2
    assert all(line["model"] == "gpt-4" for line in lines)
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["done_reason"] in {"stop", "length"}
    (sent,) = simulator.requests_to(path)
    assert sent.json["model"] == _THEIRS
    assert _KEY in dict(sent.headers)[credential]
    assert router.token not in str(sent.headers)
    assert rows[0].server == "paid"
    assert rows[0].streamed
    assert rows[0].completion_tokens == lines[-1]["eval_count"] > 0
    assert rows[0].prompt_tokens == lines[-1]["prompt_eval_count"] > 0


async def test_a_whole_answer_has_a_length(tmp_path: Path) -> None:
    """Without a stream the translated answer is one object."""
    async with _stage(tmp_path, api="anthropic") as (router, _), router.client() as client:
        answer = await client.post("/api/generate", json={"model": "gpt-4", "prompt": "hello", "stream": False})
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.json()["done"] is True
    assert answer.json()["response"]


async def test_an_openai_client_reaches_anthropic(tmp_path: Path) -> None:
    """OpenAI's route on a model of an Anthropic host; what cannot be carried over is said in a header."""
    async with _stage(tmp_path, api="anthropic") as (router, simulator), router.client() as client:
        answer = await client.post("/v1/chat/completions", json={**_CHAT, "seed": 7})
    assert answer.json()["object"] == "chat.completion"
    assert answer.json()["model"] == "gpt-4"
    assert answer.headers["x-router-dropped"] == "seed"
    assert simulator.requests_to("/v1/messages")


async def test_an_anthropic_client_reaches_openai(tmp_path: Path) -> None:
    """Anthropic's route on a model of an OpenAI host, streamed to its `message_stop`."""
    async with _stage(tmp_path, api="openai") as (router, simulator), router.client() as client:
        answer = await client.post("/v1/messages", json={**_MESSAGES, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.rstrip().splitlines()[-2] == "event: message_stop"
    assert simulator.requests_to("/v1/chat/completions")


@pytest.mark.parametrize(("api", "path"), [("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_responses_client_reaches_other_hosts(tmp_path: Path, api: str, path: str, stream: bool) -> None:
    """`/v1/responses` on a model of a host that has no such route, whole and streamed, with its tokens in the row."""
    asked = {"model": "gpt-4", "input": "hello", "stream": stream}
    async with _stage(tmp_path, api=api) as (router, simulator), router.client() as client:
        answer = await client.post("/v1/responses", json=asked)
        rows = await router.rows()
    if stream:
        assert answer.headers["content-type"].startswith("text/event-stream")
        last = answer.text.rstrip().rsplit("data: ", 1)[1]
        response = json.loads(last)["response"]
    else:
        response = answer.json()
    assert response["status"] in {"completed", "incomplete"}
    assert response["store"] is False
    assert (response["model"], response["output"][0]["type"]) == ("gpt-4", "message")
    assert rows[0].completion_tokens == response["usage"]["output_tokens"] > 0
    assert simulator.requests_to(path)


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_other_clients_reach_a_responses_host(tmp_path: Path, path: str, stream: bool) -> None:
    """A host that speaks `/v1/responses` alone answers chats, and stores nothing; the row has tokens and TTFT."""
    async with _stage(tmp_path, api="openai_responses") as (router, simulator), router.client() as client:
        answer = await client.post(path, json={**_MESSAGES, "stream": stream})
        rows = await router.rows()
    assert answer.status_code == 200, answer.text
    assert rows[0].completion_tokens > 0
    assert rows[0].ttft_ms is not None
    assert 0 < rows[0].ttft_ms <= rows[0].total_ms
    (sent,) = simulator.requests_to("/v1/responses")
    assert (sent.json["model"], sent.json["store"]) == (_THEIRS, False)


@pytest.mark.parametrize(("api", "path"), [("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")])
async def test_the_hosts_own_dialect_passes_as_it_is(tmp_path: Path, api: str, path: str) -> None:
    """Only the model's name changes for a client that speaks what the host speaks."""
    body = {**_MESSAGES, "odd_key": [1e300, "\u00e9"]}
    async with _stage(tmp_path, api=api) as (router, simulator), router.client() as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    (sent,) = simulator.requests_to(path)
    assert sent.json == {**body, "model": _THEIRS}


async def test_an_ollama_server_is_spoken_to_untranslated(tmp_path: Path) -> None:
    """Ollama speaks OpenAI's and Anthropic's routes itself."""
    async with (
        OllamaSimulator(models=[_THEIRS], answer_tokens=4, time_scale=0.01) as simulator,
        running_router(tmp_path, {"box": server_entry(simulator)}) as router,
        router.client() as client,
    ):
        await client.post("/v1/messages", json={**_MESSAGES, "model": _THEIRS})
        await client.post("/v1/chat/completions", json={**_CHAT, "model": _THEIRS})
    assert [one.path for one in simulator.requests if one.method == "POST" and one.path != "/api/show"] == [
        "/v1/messages",
        "/v1/chat/completions",
    ]


async def test_azure_style_paths(tmp_path: Path) -> None:
    """A prefix takes the place of `/v1` and may hold the model's name; query and fields go along."""
    host = {
        "api": "openai",
        "path_prefix": "/openai/deployments/{model}",
        "query": "api-version=1",
        "headers": {"x-extra": "${PAID_KEY:-none}"},
        "api_key_header": "api-key",
        "models": {"gpt-4": "prod"},
    }
    async with _stage(tmp_path, **host) as (router, simulator), router.client() as client:
        answer = await client.post("/v1/chat/completions", json=_CHAT)
    assert answer.status_code == 404
    sent = simulator.requests[-1]
    assert sent.path == "/openai/deployments/prod/chat/completions"
    assert sent.target.endswith("?api-version=1")
    assert dict(sent.headers)["api-key"] == _KEY
    assert dict(sent.headers)["x-extra"] == "none"


async def test_lists_and_show_tell_what_the_settings_say(tmp_path: Path) -> None:
    """An Ollama client sees a model that runs elsewhere, with the capabilities that the operator declared."""
    models = {"gpt-4": {"name": _THEIRS, "capabilities": ["completion", "tools"], "context_length": 128000}}
    async with _stage(tmp_path, models=models) as (router, simulator), router.client() as client:
        tags = (await client.get("/api/tags")).json()["models"]
        show = (await client.post("/api/show", json={"model": "gpt-4"})).json()
        listed = (await client.get("/v1/models")).json()["data"]
    assert [row["name"] for row in tags] == ["gpt-4"]
    assert tags[0]["capabilities"] == show["capabilities"] == ["completion", "tools"]
    assert show["model_info"] == {"general.context_length": 128000}
    assert [row["id"] for row in listed] == ["gpt-4"]
    assert not simulator.requests


async def test_an_anthropic_client_lists_models_in_its_own_shape(tmp_path: Path) -> None:
    """`anthropic-version` tells who asks; one page has them all, with the limits that are known."""
    models = {"gpt-4": {"name": _THEIRS, "context_length": 128000}}
    async with _stage(tmp_path, models=models) as (router, _), router.client() as client:
        asked = {"anthropic-version": "2023-06-01"}
        listed = (await client.get("/v1/models", headers=asked)).json()
        one = (await client.get("/v1/models/gpt-4", headers=asked)).json()
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("gpt-4", "gpt-4", False)
    assert listed["data"] == [one]
    assert (one["type"], one["id"], one["display_name"]) == ("model", "gpt-4", "gpt-4")
    assert one["max_input_tokens"] == 128000
    assert one["created_at"].endswith("Z")


@pytest.mark.parametrize("stream", [False, True])
async def test_signed_thoughts_are_put_back_for_a_client_that_has_no_place_for_them(
    tmp_path: Path, stream: bool
) -> None:
    """An Ollama client calls a tool of a host that wants its signature back with the result, and only its own user."""
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "sig-1"},
        {"type": "tool_use", "id": "toolu_01AB", "name": "f", "input": {}},
    ]
    body = json.dumps({"type": "message", "content": content, "stop_reason": "tool_use"}).encode()
    async with _stage(tmp_path, api="anthropic") as (router, simulator), router.client() as client:
        simulator.misbehave(Answer(status=200, body=body), times=1)
        first = await client.post("/api/chat", json={**_CHAT, "stream": stream})
        turn = next(line["message"] for line in _lines(first.text) if "tool_calls" in line["message"])
        turn.pop("thinking", None)
        messages = [*_CHAT["messages"], turn, {"role": "tool", "tool_name": "f", "content": "1"}]
        await client.post("/api/chat", json={**_CHAT, "messages": messages, "stream": stream})
    sent = simulator.requests_to("/v1/messages")[-1].json
    assert sent["messages"][1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "sig-1"}


async def test_a_session_of_claude_code_goes_on_after_an_image(tmp_path: Path) -> None:
    """A picture in a result, a reminder as a system message, a hosted tool: OpenAI's dialect gets all in its forms."""
    png = "iVBORw0KGgoAAAANSUhEUg=="
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}}
    call = {"type": "tool_use", "id": "toolu_01AB", "name": "Read", "input": {"file_path": "pic.png"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_01AB", "content": [image]}
    tools = [{"name": "Read", "input_schema": {}}, {"type": "web_search_20250305", "name": "web_search"}]
    asked = {
        "model": "gpt-4",
        "max_tokens": 64,
        "metadata": {"user_id": "session-1"},
        "tools": tools,
        "messages": [
            {"role": "user", "content": "what is it?"},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
            {"role": "system", "content": "be brief"},
        ],
    }
    choice = {"message": {"content": "a cat"}, "finish_reason": "stop"}
    async with _stage(tmp_path, api="openai") as (router, simulator), router.client() as client:
        simulator.misbehave(Answer(status=200, body=json.dumps({"choices": [choice]}).encode()), times=1)
        answer = await client.post("/v1/messages", json=asked)
    (sent,) = simulator.requests_to("/v1/chat/completions")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-router-dropped"] == "tools.web_search_20250305"
    assert [message["role"] for message in sent.json["messages"]] == ["user", "assistant", "tool", "user"]
    assert png in json.dumps(sent.json["messages"][3])
    assert "be brief" in json.dumps(sent.json["messages"][3])
    assert sent.json["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert sent.json["user"] == "session-1"


async def test_loading_a_model_elsewhere_costs_nothing(tmp_path: Path) -> None:
    """`ollama run` begins with an empty request, and ends with one that unloads: neither goes to a paid host."""
    async with _stage(tmp_path) as (router, simulator), router.client() as client:
        load = await client.post("/api/generate", json={"model": "gpt-4"})
        unload = await client.post("/api/generate", json={"model": "gpt-4", "keep_alive": 0})
    assert load.json()["done_reason"] == "load"
    assert unload.json()["done_reason"] == "unload"
    assert not simulator.requests


@pytest.mark.parametrize("path", ["/api/chat", "/v1/messages"])
async def test_errors_come_in_the_clients_dialect_without_the_key(tmp_path: Path, path: str) -> None:
    """A host that echoes our key in its error does not show it to the client; a refused key is not the client's 401."""
    body = json.dumps({"error": {"message": f"bad key {_KEY}", "type": "server_error"}}).encode()
    async with _stage(tmp_path, api="openai") as (router, simulator), router.client() as client:
        simulator.misbehave(Answer(status=400, body=body), times=1)
        answer = await client.post(path, json=_MESSAGES)
        simulator.misbehave(Answer(status=401, body=body), times=1)
        refused = await client.post(path, json=_MESSAGES)
    assert answer.status_code == 400
    assert "bad key" in answer.text
    assert refused.status_code == 502
    assert _KEY not in answer.text + refused.text
    assert isinstance(answer.json()["error"], str if path == "/api/chat" else dict)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "status", "retry"), [("/api/chat", 403, "false"), ("/v1/messages", 429, None)])
async def test_an_error_with_status_200_has_its_own_status(
    tmp_path: Path, path: str, stream: bool, status: int, retry: str | None
) -> None:
    """OpenRouter and others begin well and then say what is wrong; SDKs are told what is worth another try."""
    error = json.dumps({"error": {"code": status, "message": "your input was flagged"}}).encode()
    body = b": PROCESSING\n\ndata: " + error + b"\n\n" if stream else error
    kind = "text/event-stream" if stream else "application/json"
    async with _stage(tmp_path, api="openai") as (router, simulator), router.client() as client:
        simulator.misbehave(Answer(status=200, body=body, content_type=kind), times=1)
        answer = await client.post(path, json={**_MESSAGES, "stream": stream})
        rows = await router.rows()
    assert answer.status_code == status
    assert "your input was flagged" in answer.text
    assert answer.headers.get("x-should-retry") == retry
    assert rows[0].error_code == "host_failed"


async def test_what_cannot_be_said_there_is_refused(tmp_path: Path) -> None:
    """A route or a wish that the host's API has no words for is the client's 400, and nothing is sent."""
    async with _stage(tmp_path, api="anthropic") as (router, simulator), router.client() as client:
        embed = await client.post("/api/embed", json={"model": "gpt-4", "input": "x"})
        asked = {"model": "gpt-4", "input": "x", "previous_response_id": "resp_1"}
        responses = await client.post("/v1/responses", json=asked)
        rows = await router.rows(2)
    assert embed.status_code == responses.status_code == 400
    assert "anthropic's API has no embeddings" in embed.json()["error"]
    assert responses.json()["error"]["code"] == "untranslatable"
    assert {row.error_code for row in rows} == {"untranslatable"}
    assert not simulator.requests


@pytest.mark.parametrize("path", ["/api/chat", "/v1/messages"])
async def test_a_stream_that_breaks_off_ends_with_an_error_and_a_cut(tmp_path: Path, path: str) -> None:
    """The client gets an error in its own dialect and then no proper end, so no half answer looks whole."""
    received = b""
    async with _stage(tmp_path, api="openai") as (router, simulator), router.client() as client:
        simulator.misbehave(Cut(after_chunks=3), path="/v1/chat/completions", times=1)
        async with client.stream("POST", path, json={**_MESSAGES, "stream": True}) as answer:
            with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - what came before is looked at below
                async for piece in answer.aiter_raw():
                    received += piece
        rows = await router.rows()
    assert b"error" in received.splitlines()[-1 if path == "/api/chat" else -2]
    assert rows[0].error_code == "upstream_disconnected"


@pytest.mark.warm_only
async def test_connections_are_used_again(tmp_path: Path) -> None:
    """A translated stream is read to the end of its host's bytes, so the connection goes back to the pool."""
    async with _stage(tmp_path, api="openai") as (router, simulator), router.client() as client:
        for _ in range(3):
            await client.post("/api/chat", json=_CHAT)
        assert simulator.connections <= 2  # one of them may be the probe of reachability
