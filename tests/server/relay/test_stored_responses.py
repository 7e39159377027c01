"""With `responses.store`, conversations of `/v1/responses` go on by id, with models of every host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
STORES = {"responses": {"store": True}}


def config_of(sim: OllamaSimulator, api: str | None) -> dict[str, Any]:
    """The model on an Ollama server, or the same behind a host of another dialect."""
    if api is None:
        return {"servers": {"one": server_entry(sim)}}
    host = server_entry(sim, protocol="http", api=api)
    return {
        "servers": {},
        "external_hosts": {"host": host},
        "model_config": {"explicit_assignments": {MODEL: "host"}},
    }


async def ask(client: httpx.AsyncClient, text: str, **more: Any) -> httpx.Response:
    """One turn."""
    return await client.post("/v1/responses", json={"model": MODEL, "input": text, **more})


def response_of(answer: httpx.Response, *, stream: bool) -> dict[str, Any]:
    """The response, of a stream that of its last event."""
    assert answer.status_code == 200, answer.text
    if not stream:
        return dict(answer.json())
    events = [json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:")]
    return next(event["response"] for event in events if event["type"] == "response.completed")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", [None, "openai", "anthropic", "ollama"])
async def test_a_conversation_goes_on_by_id(tmp_path: Path, api: str | None, stream: bool) -> None:
    """The server gets the whole of it, whatever its dialect, and keeps nothing itself."""
    async with OllamaSimulator(models=[model(MODEL)], answer_tokens=3) as sim:
        settings = config_of(sim, api)
        servers = settings.pop("servers")
        async with running_router(tmp_path, servers, **settings, **STORES) as router, router.client() as client:
            first = response_of(await ask(client, "my name is Ann", stream=stream), stream=stream)
            second = response_of(
                await ask(client, "who am I?", stream=stream, previous_response_id=first["id"]), stream=stream
            )
            third = await ask(client, "again", previous_response_id=second["id"])
            read = (await client.get(f"/v1/responses/{second['id']}")).json()
    asked = [one.body.decode() for one in sim.requests if one.method == "POST" and b"who am I" in one.body]
    assert third.status_code == 200
    assert "my name is Ann" in asked[0]
    assert "word0" in asked[0]
    assert [text in asked[-1] for text in ("my name is Ann", "who am I?", "again")] == [True] * 3
    assert not any("previous_response_id" in text and first["id"] in text for text in asked)
    assert (read["id"], read["previous_response_id"], read["store"]) == (second["id"], first["id"], True)
    assert read["output"] == second["output"]


async def test_what_is_kept_is_its_user_s(tmp_path: Path) -> None:
    """Another user, who knows the id, finds nothing; what is deleted is gone."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, **STORES) as router,
        router.client() as client,
        router.client(router.admin_token) as other,
    ):
        given = response_of(await ask(client, "hi"), stream=False)["id"]
        foreign = await other.get(f"/v1/responses/{given}")
        continued = await ask(other, "and?", previous_response_id=given)
        undeleted = await other.delete(f"/v1/responses/{given}")
        deleted = await client.delete(f"/v1/responses/{given}")
        gone = await client.get(f"/v1/responses/{given}")
    assert (foreign.status_code, undeleted.status_code, gone.status_code) == (404, 404, 404)
    assert (continued.status_code, continued.json()["error"]["message"].startswith("Previous response")) == (400, True)
    assert deleted.json() == {"id": given, "object": "response", "deleted": True}


async def test_nothing_is_kept_that_the_client_does_not_want_kept(tmp_path: Path) -> None:
    """`"store": false`, as Codex writes."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, **STORES) as router,
        router.client() as client,
    ):
        given = response_of(await ask(client, "hi", store=False), stream=False)["id"]
        read = await client.get(f"/v1/responses/{given}")
        (sent,) = sim.requests_to("/v1/responses")
    assert read.status_code == 404
    assert sent.json == {"model": MODEL, "input": "hi", "store": False}


async def test_numbers_and_sizes_are_bounded(tmp_path: Path) -> None:
    """The oldest goes first; what is too long is answered and not kept."""
    bounds = {"store": True, "max_per_user": 2, "max_size": "4KB"}
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, responses=bounds) as router,
        router.client() as client,
    ):
        ids = [response_of(await ask(client, text), stream=False)["id"] for text in ("a", "b", "c", "x" * 8000)]
        found = [(await client.get(f"/v1/responses/{given}")).status_code for given in ids]
    assert found == [404, 200, 200, 404]


async def test_age_is_bounded(tmp_path: Path) -> None:
    """After `keep` an answer counts as unknown."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, responses={"store": True, "keep": 0.001}) as router,
        router.client() as client,
    ):
        given = response_of(await ask(client, "hi"), stream=False)["id"]
        assert (await client.get(f"/v1/responses/{given}")).status_code == 404


async def test_without_the_setting_nothing_is_kept(tmp_path: Path) -> None:
    """And what asks for it is told what to set."""
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        settings = config_of(sim, "openai")
        async with running_router(tmp_path, settings.pop("servers"), **settings) as router, router.client() as client:
            refused = await ask(client, "hi", store=True)
            continued = await ask(client, "hi", previous_response_id="resp_1")
            read = await client.get("/v1/responses/resp_1")
    assert (refused.status_code, read.status_code) == (400, 404)
    assert "set store to false" in refused.text
    assert continued.status_code in {400, 403}
    assert "responses.store" in read.text
