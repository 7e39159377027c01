"""A stream that ends well framed without its dialect's end: what a dead runner leaves behind Ollama's `/v1` routes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import Answer, EndEarly, OllamaSimulator, StreamError, model
from support.faulty_ollama import STREAM, chunk, entry, faulty_ollama, length_of
from support.raw_client import RawClient, parsed, request_bytes
from support.router import RunningRouter, running_router, server_entry
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
HI = [{"role": "user", "content": "hi"}]
DIALECTS: dict[str, tuple[dict[str, Any], bytes]] = {
    "/api/chat": ({"messages": HI}, b'{"error":"one ended the stream before'),
    "/api/generate": ({"prompt": "hi"}, b'{"error":"one ended the stream before'),
    "/v1/chat/completions": ({"messages": HI}, b'data: {"error":{"message":"one ended the stream before'),
    "/v1/completions": ({"prompt": "hi"}, b'data: {"error":{"message":"one ended the stream before'),
    "/v1/responses": ({"input": "hi"}, b"event: error\ndata: "),
    "/v1/messages": ({"messages": HI, "max_tokens": 9}, b"event: error\ndata: "),
}


async def answer_to(router: RunningRouter, path: str) -> Any:
    """The answer to a streamed request, as far as it came."""
    body = json.dumps({"model": MODEL, "stream": True, **DIALECTS[path][0]}).encode()
    async with RawClient.open(router.port) as client:
        await client.send(request_bytes(router.token, body, path=path, headers={"Connection": "close"}))
        return parsed(await client.to_end())


@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize("after", [0, 2])
async def test_an_end_without_the_dialects_own_is_told_and_cut(tmp_path: Path, path: str, after: int) -> None:
    """An error of the dialect, a connection that is cut, and a row that says so; after no piece and after some."""
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=9) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        sim.misbehave(EndEarly(after_chunks=after), path=path)
        answer = await answer_to(router, path)
        (row,) = await router.rows()
    assert (answer.status, answer.complete) == (200, False)
    assert DIALECTS[path][1] in answer.body
    assert (row.status, row.error_code) == (200, "upstream_incomplete")


@pytest.mark.parametrize("path", DIALECTS)
async def test_a_whole_stream_is_left_as_it_is(tmp_path: Path, path: str) -> None:
    """Its end is the dialect's."""
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=9) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        answer = await answer_to(router, path)
        (row,) = await router.rows()
    assert answer.complete
    assert row.error_code is None


async def test_a_whole_answer_to_a_request_for_a_stream_is_left_as_it_is(tmp_path: Path) -> None:
    """Some hosts give one: it has no end of its own."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        sim.misbehave(Answer(status=200, body=b'{"choices":[]}'), path="/v1/chat/completions")
        answer = await answer_to(router, "/v1/chat/completions")
        (row,) = await router.rows()
    assert (answer.complete, answer.body) == (True, b'{"choices":[]}')
    assert row.error_code is None


async def test_an_error_in_the_stream_passes_and_is_in_the_row(tmp_path: Path) -> None:
    """Ollama's own error line ends the stream: nothing is added, and the row does not say that all was well."""
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=9) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        sim.misbehave(StreamError(after_chunks=2, message="boom"), path="/api/chat")
        answer = await answer_to(router, "/api/chat")
        (row,) = await router.rows()
    assert json.loads(answer.body.splitlines()[-1]) == {"error": "boom"}
    assert row.error_code == "upstream_incomplete"


async def test_five_such_ends_put_the_model_out_there(tmp_path: Path) -> None:
    """Its runner dies again and again: the sixth request goes to the other server."""
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=9) as one,
        OllamaSimulator(models=[model(MODEL)], answer_tokens=9) as two,
        running_router(
            tmp_path,
            {"one": server_entry(one, priority=1), "two": server_entry(two, priority=2)},
            health_check_interval=300,
        ) as router,
    ):
        one.misbehave(EndEarly(after_chunks=1), path="/v1/chat/completions")
        answers = [await answer_to(router, "/v1/chat/completions") for _ in range(7)]
    assert [answer.complete for answer in answers] == [False] * 5 + [True] * 2


def says(*pieces: bytes) -> ScriptedServer:
    """A server that streams these pieces and ends."""

    async def serve(peer: Peer, head: bytes) -> None:
        await peer.body(length_of(head))
        await peer.send(STREAM, *(chunk(piece) for piece in pieces), chunk(b""))

    return faulty_ollama(serve)


ENDS = {
    "no [DONE] but a finish reason": (
        "/v1/chat/completions",
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    ),
    "blanks after colons": ("/v1/chat/completions", b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'),
    "no line end": ("/api/chat", b'{"message":{"content":""},"done":true}'),
    "a last line of many kilobytes": (
        "/api/generate",
        b'{"response":"","done":true,"context":[' + b"1," * 40_000 + b'1],"eval_count":3}\n',
    ),
    "a last event of many kilobytes": (
        "/v1/responses",
        b'event: response.completed\ndata: {"type":"response.completed","response":{"output":"'
        + b"x" * 80_000
        + b'"}}\n\n',
    ),
}


@pytest.mark.parametrize("ending", ENDS)
async def test_what_counts_as_an_end(tmp_path: Path, ending: str) -> None:
    """Each form in which servers say it."""
    path, data = ENDS[ending]
    async with says(data) as server, running_router(tmp_path, {"one": entry(server)}) as router:
        answer = await answer_to(router, path)
    assert answer.complete, ending
    assert answer.body == data


async def test_an_answer_that_talks_of_its_end_has_not_ended(tmp_path: Path) -> None:
    """Words in the text of an answer are no end."""
    line = json.dumps({"message": {"content": '"done":true data: [DONE]'}, "done": False}).encode() + b"\n"
    async with says(line) as server, running_router(tmp_path, {"one": entry(server)}) as router:
        answer = await answer_to(router, "/api/chat")
    assert not answer.complete


async def test_openais_client_sees_the_error(tmp_path: Path) -> None:
    """A program that reads to the end gets an exception, not a short answer."""
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=9) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.misbehave(EndEarly(after_chunks=2), path="/api/chat")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/api/chat", json={"model": MODEL, "messages": HI})
