"""The OpenAI routes of the simulator: shapes, streams, errors, and what the mid-stream error looks like."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, StreamError, model
from support.plain_http import async_client

pytestmark = pytest.mark.anyio

HI = [{"role": "user", "content": "say hi"}]
CHAT = {"model": "llama3.1:8b", "messages": HI, "max_tokens": 3}


def events(answer: httpx.Response) -> list[Any]:
    """The data of each unnamed event; the end mark as it is."""
    data = [one.removeprefix("data: ") for one in answer.text.split("\n\n") if one]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


async def test_chat_completion(http: httpx.AsyncClient) -> None:
    """Whole by default: one choice, usage, application/json."""
    answer = await http.post("/v1/chat/completions", json=CHAT)
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert {key: body[key] for key in ("object", "model", "system_fingerprint", "usage")} == {
        "object": "chat.completion",
        "model": "llama3.1:8b",
        "system_fingerprint": "fp_ollama",
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    }
    message = {"role": "assistant", "content": "word0 word1 word2"}
    assert body["choices"] == [{"index": 0, "message": message, "finish_reason": "length"}]
    assert body["id"].startswith("chatcmpl-")


async def test_chat_stream_ends_with_done(http: httpx.AsyncClient) -> None:
    """A stream of chunks, a finish reason in the last one, then [DONE]; no usage unless asked for."""
    answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream"
    *chunks, end = events(answer)
    assert end == "[DONE]"
    deltas = [one["choices"][0]["delta"] for one in chunks]
    assert deltas == [{"role": "assistant", "content": "word0"}, {"content": " word1"}, {"content": " word2"}, {}]
    assert [one["choices"][0]["finish_reason"] for one in chunks] == [None, None, None, "length"]
    assert all(one["object"] == "chat.completion.chunk" and "usage" not in one for one in chunks)


async def test_chat_stream_with_usage(http: httpx.AsyncClient) -> None:
    """stream_options.include_usage adds one chunk with usage and no choices before [DONE]."""
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    *_, last, usage, end = events(await http.post("/v1/chat/completions", json=body))
    assert last["choices"][0]["finish_reason"] == "length"
    assert (usage["choices"], end) == ([], "[DONE]")
    assert usage["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


async def test_thinking_is_reasoning(http: httpx.AsyncClient) -> None:
    """Thoughts are shown as `reasoning`."""
    body = {"model": "qwen3:8b", "messages": HI}
    answer = (await http.post("/v1/chat/completions", json=body)).json()
    assert answer["choices"][0]["message"]["reasoning"].startswith("thought0")


async def test_tool_calls_have_text_arguments(http: httpx.AsyncClient) -> None:
    """Arguments are a JSON text and the finish reason is tool_calls, streamed or not."""
    tool = {
        "type": "function",
        "function": {"name": "now", "parameters": {"properties": {"zone": {"type": "string"}}}},
    }
    body = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "call now"}], "tools": [tool]}
    (choice,) = (await http.post("/v1/chat/completions", json=body)).json()["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], call["type"]) == ("tool_calls", "function")
    assert call["function"] == {"name": "now", "arguments": '{"zone":"value"}'}
    *chunks, _ = events(await http.post("/v1/chat/completions", json={**body, "stream": True}))
    assert chunks[0]["choices"][0]["delta"]["tool_calls"] == [call]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("wanted", "content"),
    [
        ({"type": "json_object"}, {"answer": "word0 word1 word2"}),
        (
            {
                "type": "json_schema",
                "json_schema": {"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}},
            },
            {"n": 1},
        ),
    ],
)
async def test_response_formats(http: httpx.AsyncClient, wanted: dict[str, Any], content: object) -> None:
    """JSON on request, free or by a schema."""
    answer = await http.post("/v1/chat/completions", json={**CHAT, "response_format": wanted})
    assert json.loads(answer.json()["choices"][0]["message"]["content"]) == content


async def test_no_effort_means_no_thinking(http: httpx.AsyncClient) -> None:
    """reasoning_effort none switches thinking off."""
    body = {"model": "qwen3:8b", "messages": HI, "reasoning_effort": "none"}
    answer = (await http.post("/v1/chat/completions", json=body)).json()
    assert "reasoning" not in answer["choices"][0]["message"]


async def test_content_parts(http: httpx.AsyncClient) -> None:
    """Text parts and data-URL images are read; addresses on the web are refused."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    body = {"model": "gemma3:12b", "messages": [{"role": "user", "content": [image]}]}
    assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
    image["image_url"] = {"url": "https://example.com/a.png"}
    refused = await http.post("/v1/chat/completions", json=body)
    text = "image URLs are not currently supported, please use base64 encoded data instead"
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, text)


@pytest.mark.parametrize(
    ("body", "status", "kind", "text"),
    [
        ({"model": "llama3.1:8b", "messages": []}, 400, "invalid_request_error", "[] is too short - 'messages'"),
        ({"model": "nope", "messages": HI}, 404, "not_found_error", "model 'nope' not found"),
        ({"messages": HI}, 400, "invalid_request_error", "model is required"),
        (
            {"model": "llama3.1:8b", "messages": [{"role": "user", "content": None}]},
            400,
            "invalid_request_error",
            "invalid message content type: <nil>",
        ),
    ],
)
async def test_errors_have_openais_shape(
    http: httpx.AsyncClient, body: dict[str, Any], status: int, kind: str, text: str
) -> None:
    """An object with message, type, param and code; also for a stream that has not begun."""
    for stream in (False, True):
        answer = await http.post("/v1/chat/completions", json={**body, "stream": stream})
        expected = {"error": {"message": text, "type": kind, "param": None, "code": None}}
        assert (answer.status_code, answer.json()) == (status, expected)


async def test_heads_of_errors_tell_who_wrote_them(http: httpx.AsyncClient) -> None:
    """The middleware's own have a charset; the handler's are written anew, without one and with a line end."""
    early = await http.post("/v1/chat/completions", json={"model": "nope", "messages": []})
    late = await http.post("/v1/chat/completions", json={"model": "nope", "messages": HI})
    assert early.headers["content-type"] == "application/json; charset=utf-8"
    assert late.headers["content-type"] == "application/json"
    assert (early.content[-1:], late.content[-1:]) == (b"}", b"\n")


async def test_an_error_in_the_stream_is_swallowed(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """An empty delta and a clean end: no error object, no finish reason, no [DONE]."""
    sim.misbehave(StreamError(after_chunks=2))
    answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert [one["choices"][0]["delta"]["content"] for one in events(answer)] == ["word0", " word1", ""]
    assert "[DONE]" not in answer.text


async def test_completion(http: httpx.AsyncClient) -> None:
    """/v1/completions has text choices; with usage wanted every chunk carries zeros before the real numbers."""
    body = {"model": "llama3.1:8b", "prompt": "a b", "max_tokens": 2}
    whole = (await http.post("/v1/completions", json=body)).json()
    assert (whole["object"], whole["choices"][0]["text"]) == ("text_completion", "word0 word1")
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, end = events(await http.post("/v1/completions", json=streamed))
    assert {one["usage"]["total_tokens"] for one in chunks} == {0}
    assert (usage["choices"], usage["usage"]["total_tokens"], end) == ([], 4, "[DONE]")


async def test_embeddings_as_floats_and_base64(http: httpx.AsyncClient) -> None:
    """Both encodings hold the same vectors; anything else is refused."""
    body = {"model": "nomic-embed-text", "input": ["a", "b"]}
    floats = (await http.post("/v1/embeddings", json=body)).json()
    coded = (await http.post("/v1/embeddings", json={**body, "encoding_format": "base64"})).json()
    assert [one["index"] for one in floats["data"]] == [0, 1]
    raw = base64.b64decode(coded["data"][0]["embedding"])
    assert struct.unpack("<768f", raw) == pytest.approx(floats["data"][0]["embedding"], abs=1e-6)
    assert floats["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    refused = await http.post("/v1/embeddings", json={**body, "encoding_format": "hex"})
    assert refused.status_code == 400
    assert (await http.post("/v1/embeddings", json={**body, "input": []})).status_code == 400


async def test_models(http: httpx.AsyncClient) -> None:
    """The list and one entry; the owner is the namespace."""
    listed = (await http.get("/v1/models")).json()
    assert listed["object"] == "list"
    entry = next(one for one in listed["data"] if one["id"] == "llama3.1:8b")
    assert entry == {"id": "llama3.1:8b", "object": "model", "created": 1_750_000_000, "owned_by": "library"}
    assert (await http.get("/v1/models/llama3.1:8b")).json() == entry
    missing = await http.get("/v1/models/nope")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")


async def test_no_models_is_null() -> None:
    """An empty list of models is null on /v1 and [] on /api."""
    async with (
        OllamaSimulator(models=[]) as simulator,
        async_client(simulator.url) as http,
    ):
        assert (await http.get("/v1/models")).json() == {"object": "list", "data": None}
        assert (await http.get("/api/tags")).json() == {"models": []}


@pytest.mark.parametrize("query", ["", "?model=hears"])
async def test_transcription(query: str) -> None:
    """A form with a file; a model in the query wins over the one in the form."""
    hears = model("hears", capabilities=("completion", "audio"))
    async with (
        OllamaSimulator(models=[hears, "llama3.1:8b"], answer_tokens=2) as simulator,
        async_client(simulator.url) as http,
    ):
        form = {"model": "llama3.1:8b" if query else "hears"}
        file = {"file": ("a.wav", b"RIFF\r\n--x", "audio/wav")}
        path = f"/v1/audio/transcriptions{query}"
        answer = await http.post(path, data=form, files=file)
        assert (answer.status_code, answer.json()) == (200, {"text": "word0 word1"})
        text = await http.post(path, data={**form, "response_format": "text"}, files=file)
        assert (text.text, text.headers["content-type"]) == ("word0 word1", "text/plain")
        deaf = await http.post("/v1/audio/transcriptions", data={"model": "llama3.1:8b"}, files=file)
        assert deaf.status_code == 400
        nameless = await http.post("/v1/audio/transcriptions", files=file)
        assert nameless.json()["error"]["message"] == "model is required"
        fileless = await http.post("/v1/audio/transcriptions", files={"model": (None, "hears")})
        assert fileless.json()["error"]["message"] == "file is required: http: no such file"
        bare = await http.post("/v1/audio/transcriptions", json={"model": "hears"})
        assert bare.json()["error"]["message"].startswith("failed to parse multipart form")
