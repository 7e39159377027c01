"""What a user may not do is refused in the route's dialect, and no server hears of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.storage.identities import UserChange
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False, "max_tokens": 3}


async def grant(router: RunningRouter, **changes: object) -> None:
    """Change alice's grants, and wait until the router knows."""
    await router.services.users.set_grants("alice", changes)
    await router.services.authenticator.refresh()


async def read_on(pieces: AsyncIterator[bytes]) -> None:
    """Read to the end."""
    async for _ in pieces:
        pass


def endless_simulator() -> OllamaSimulator:
    """A server whose answers do not end by themselves, two at a time."""
    endless = model("llama3.1:8b", decode_speed=50.0, prefill_speed=10_000.0)
    return OllamaSimulator(models=[endless], time_scale=1.0, answer_tokens=10_000, num_parallel=2, load_speed=1e12)


@pytest.mark.parametrize(
    "grants",
    [
        {"models": ["qwen*"]},
        {"kinds": ["read"]},
        {"networks": ["10.0.0.0/8"]},
        {"expires_at": 1.0},
    ],
    ids=lambda grants: next(iter(grants)),
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_what_is_not_granted_is_403(tmp_path: Path, grants: dict[str, object], path: str) -> None:
    """In the words of each API."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await grant(router, **grants)
        response = await client.post(path, json=CHAT)
        assert response.status_code == 403
        error = response.json()["error"]
        assert isinstance(error, str) if path == "/api/chat" else error["message"]
        assert not sim.requests_to(path)
        assert (await router.rows())[0].error_code == "forbidden"


async def test_a_model_is_checked_on_every_route_that_names_one(tmp_path: Path) -> None:
    """No route is a way around."""
    paths = ("generate", "chat", "embed", "embeddings", "show")
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await grant(router, models=["qwen*"])
        for path in (*(f"/api/{name}" for name in paths), "/v1/completions", "/v1/embeddings"):
            body = {"model": "registry.ollama.ai/library/LLAMA3.1:8B", "prompt": "x", "input": "x"}
            assert (await client.post(path, json=body)).status_code == 403, path
            assert path == "/api/show" or not sim.requests_to(path)  # the router itself asks /api/show


async def test_an_external_host_that_is_not_granted_gets_nothing(tmp_path: Path) -> None:
    """It costs money."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(
            tmp_path,
            {"one": server_entry(sim)},
            external_hosts={"paid": {"host": "127.0.0.1", "port": sim.port, "protocol": "http"}},
            model_config={"explicit_assignments": {"llama3.1:8b": "paid"}},
        ) as router,
        router.client() as client,
    ):
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        await grant(router, hosts=[])
        response = await client.post("/v1/chat/completions", json=CHAT)
        assert response.status_code == 403
        assert "paid" in response.json()["error"]["message"]
        assert len(sim.requests_to("/v1/chat/completions")) == 1


async def test_where_hosts_have_to_be_granted_a_new_user_spends_nothing(tmp_path: Path) -> None:
    """Neither asks nor sees a model there, until an admin grants the host; admins may."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(
            tmp_path,
            {"one": server_entry(sim)},
            external_hosts={"paid": {"host": "127.0.0.1", "port": sim.port, "protocol": "http"}},
            model_config={"explicit_assignments": {"gpt-4": "paid"}},
            external_hosts_for="granted",
        ) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        chat = {**CHAT, "model": "gpt-4"}
        assert (await client.post("/v1/chat/completions", json=chat)).status_code == 403
        assert "gpt-4" not in (await client.get("/v1/models")).text
        assert "gpt-4" in (await admin.get("/v1/models")).text
        assert not sim.requests_to("/v1/chat/completions")
        await grant(router, hosts=["paid"])
        assert "gpt-4" in (await client.get("/v1/models")).text
        await client.post("/v1/chat/completions", json=chat)
        assert len(sim.requests_to("/v1/chat/completions")) == 1


@pytest.mark.parametrize("keep_alive", [0, "0s", "1ms"])
async def test_unloading_needs_a_grant_where_others_use_the_models(tmp_path: Path, keep_alive: object) -> None:
    """An order to unload is 403 and names its member; a chat is answered, and leaves the model where it is."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        chat, unload = {**CHAT, "keep_alive": keep_alive}, {"model": "llama3.1:8b", "keep_alive": 0}
        refused = await client.post("/api/generate", json=unload)
        assert refused.status_code == 403
        assert "keep_alive" in refused.json()["error"]
        assert (await client.post("/api/chat", json=chat)).status_code == 200
        assert sim.requests_to("/api/chat")[-1].json["keep_alive"] is None
        assert "keep_alive left out" in ((await router.rows(2))[0].reason or "")
        await grant(router, unload=True)
        assert (await client.post("/api/chat", json=chat)).status_code == 200
        assert sim.requests_to("/api/chat")[-1].json["keep_alive"] == keep_alive
        assert (await client.post("/api/generate", json=unload)).json()["done_reason"] == "unload"


async def test_the_only_user_may_unload(tmp_path: Path) -> None:
    """Nobody else is there to miss the model."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await router.services.users.change("root", UserChange(active=False))
        await router.services.authenticator.refresh()
        unload = await client.post("/api/generate", json={"model": "llama3.1:8b", "keep_alive": 0})
        assert unload.json()["done_reason"] == "unload"


async def test_a_limit_is_429_with_the_way_on(tmp_path: Path) -> None:
    """Header fields on every answer; Retry-After on the refusal; reading stays free."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await grant(router, requests_per_minute=2)
        answers = [await client.post("/v1/chat/completions", json=CHAT) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
        assert 0 < int(answers[2].headers["retry-after"]) <= 60
        assert answers[2].json()["error"]["code"] == "limit_exceeded"
        assert (await client.get("/api/tags")).status_code == 200


async def test_tokens_are_settled_by_what_the_server_says(tmp_path: Path) -> None:
    """The header shows the true use, and a used-up day refuses."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await grant(router, tokens_per_day=400)
        first = await client.post("/api/chat", json={**CHAT, "options": {"num_predict": 3}})
        used = first.json()["prompt_eval_count"] + first.json()["eval_count"]
        user = next(iter(router.services.authenticator._directory.by_token.values())).user
        await eventually(lambda: router.services.usage_limits.standing(user).tokens.remaining == 400 - used)
        await grant(router, tokens_per_day=used)
        refused = await client.post("/api/chat", json=CHAT)
        assert refused.status_code == 429
        assert refused.headers["x-ratelimit-remaining-tokens"] == "0"


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_a_minute_whose_tokens_are_used_up_is_429_with_the_way_on(tmp_path: Path, path: str) -> None:
    """In each dialect, by the estimate once the body is known, and by the head alone once nothing is left."""

    def asking(tokens: int) -> dict[str, object]:
        return body | {"max_tokens": tokens, "max_output_tokens": tokens, "options": {"num_predict": tokens}}

    body: dict[str, object] = {"model": "llama3.1:8b", "stream": False}
    body |= {"input": "hi"} if path == "/v1/responses" else {"messages": CHAT["messages"]}
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await grant(router, tokens_per_minute=1_000)
        answers = [await client.post(path, json=asking(tokens)) for tokens in (3, 2_000)]
        await grant(router, tokens_per_minute=1)
        answers.append(await client.post(path, json=asking(3)))
        assert [answer.status_code for answer in answers] == [200, 429, 429]
        for answer in answers[1:]:
            assert 0 < int(answer.headers["retry-after"]) <= 61
            assert answer.headers["x-router-error"] == "limit_exceeded"
            assert "per minute" in answer.text
        assert answers[0].headers["x-ratelimit-limit-tokens"] == "1000"
        assert answers[2].headers["x-ratelimit-remaining-tokens"] == "0"


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_a_client_that_leaves_pays_for_what_was_written(tmp_path: Path, path: str) -> None:
    """A token for each piece that came, and for every four bytes of the prompt; the row says that it is an estimate."""
    async with (
        endless_simulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await grant(router, tokens_per_day=10**6)
        body = {**CHAT, "max_tokens": 10**6, "stream": True}
        received = b""
        async with client.stream("POST", path, json=body) as stream:
            async for piece in stream.aiter_bytes():
                received += piece
                if len(received) > 5_000:
                    break
        (row,) = await router.rows(1)
        written = max(received.count(word) for word in (b'"done":false', b'"delta":{', b'"content_block_delta"'))
        assert written <= row.completion_tokens <= written + 50
        assert row.tokens_estimated
        user = next(iter(router.services.authenticator._directory.by_token.values())).user
        used = row.prompt_tokens + row.completion_tokens
        await eventually(lambda: router.services.usage_limits.standing(user).tokens.remaining == 10**6 - used)


async def test_one_at_a_time(tmp_path: Path) -> None:
    """A stream that has ended makes room, also one whose client left."""
    async with (
        endless_simulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await grant(router, concurrent_requests=1)
        async with client.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as stream:
            await anext(stream.aiter_bytes())
            assert (await client.post("/api/chat", json=CHAT)).status_code == 429
        limits = router.services.usage_limits
        await eventually(lambda: limits._meters.known["alice"].in_flight == 0)
        async with client.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as stream:
            assert stream.status_code == 200


@pytest.mark.parametrize("how", ["deactivate", "revoke", "delete", "expire"])
async def test_a_revoked_user_s_stream_is_cut_within_two_seconds(tmp_path: Path, how: str) -> None:
    """Not ended as if it were complete; others go on."""
    async with (
        endless_simulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as other,
    ):
        users = router.services.users
        long = {**CHAT, "stream": True}
        async with (
            client.stream("POST", "/api/chat", json=long) as stream,
            other.stream("POST", "/api/chat", json=long) as unaffected,
        ):
            pieces, kept = stream.aiter_bytes(), unaffected.aiter_bytes()
            await anext(pieces)
            await anext(kept)
            started = time.monotonic()
            if how == "revoke":
                await users.revoke_token("alice", "default")
            elif how == "expire":
                await users.set_grants("alice", {"expires_at": time.time() + 0.5})
            elif how == "delete":
                await users.delete("alice")
            else:
                await users.change("alice", UserChange(active=False))
            with pytest.raises(httpx.RemoteProtocolError):
                await read_on(pieces)
            assert time.monotonic() - started < 10.0  # two seconds on a machine of its own
            await anext(kept)
