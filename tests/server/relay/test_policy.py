"""What the operator decided about models holds for every request: names, contexts, stand-ins, drains, warm models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_router_core.config import load_config
from ollama_router_core.errors import ConfigError
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.services import Services
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
SMALL = "llama3.2:3b"


async def test_an_alias_is_served_by_the_model_it_means(tmp_path: Path) -> None:
    """Only the name changes on the way; the row knows both."""
    body = b'{"model": "gpt-4",  "messages": [{"role":"user","content":"hi"}], "stream": false, "x": 1e400}'
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, model_config={"aliases": {"gpt-4": MODEL}}) as router,
        router.client() as client,
    ):
        answer = await client.post("/api/chat", content=body)
        (row,) = await router.rows()
        (sent,) = sim.requests_to("/api/chat")
    assert answer.status_code == 200
    assert sent.body == body.replace(b'"gpt-4"', f'"{MODEL}"'.encode())
    assert (row.model_asked, row.model_served) == ("gpt-4", MODEL)
    assert "gpt-4 is an alias of llama3.1:8b" in (row.reason or "")


async def test_a_pinned_context_and_a_clamped_keep_alive_are_what_is_sent(tmp_path: Path) -> None:
    """Nobody makes a model reload with a context of their own, or stay forever."""
    rules = [{"pattern": "llama3*", "num_ctx": 8192, "max_keep_alive": 600}]
    body = {"model": MODEL, "prompt": "hi", "stream": False, "options": {"num_ctx": 131072}, "keep_alive": -1}
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, model_config={"rules": rules}) as router,
        router.client() as client,
    ):
        answer = await client.post("/api/generate", json=body)
        (row,) = await router.rows()
        (sent,) = sim.requests_to("/api/generate")
    assert answer.status_code == 200
    assert json.loads(sent.body) == {**body, "options": {"num_ctx": 8192}, "keep_alive": "600s"}
    assert row.num_ctx == 8192


async def test_a_stand_in_answers_and_says_so(tmp_path: Path) -> None:
    """The model is on no server: the fallback answers, announced in a header and in the row."""
    async with (
        OllamaSimulator(models=[model(SMALL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, model_config={"fallbacks": {MODEL: SMALL}}) as router,
        router.client() as client,
    ):
        answer = await client.post("/api/generate", json={"model": MODEL, "prompt": "hi", "stream": False})
        plain = await client.post("/api/generate", json={"model": SMALL, "prompt": "hi", "stream": False})
        rows = await router.rows(2)
    assert answer.status_code == 200
    assert answer.headers["x-router-fallback"] == SMALL
    assert "x-router-fallback" not in plain.headers
    (row,) = [row for row in rows if row.model_asked == MODEL]
    assert row.model_served == SMALL
    assert "stands in" in (row.reason or "")


async def test_a_stand_in_is_bound_by_permission_and_capability(tmp_path: Path) -> None:
    """Without a fallback, or with one that cannot see, the first model's own error is what the client gets."""
    body = {"model": "llava:7b", "prompt": "what is this?", "images": ["aGk="], "stream": False}
    async with (
        OllamaSimulator(models=[model(SMALL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, model_config={"fallbacks": {"llava:7b": SMALL}}) as router,
        router.client() as client,
    ):
        blind = await client.post("/api/generate", json=body)
        missing = await client.post("/api/generate", json={"model": MODEL, "prompt": "hi"})
        seen = sim.requests_to("/api/generate")
    assert 400 <= blind.status_code < 500
    assert missing.status_code == 404
    assert seen == []


async def test_what_must_stay_local_is_checked_when_the_config_loads(tmp_path: Path) -> None:
    """No assignment may lead it outside; the router does not start with such a config."""
    settings = {
        "servers": {"one": {"host": "gpu1"}},
        "external_hosts": {"openai": {"host": "api.openai.com"}},
        "model_config": {"local_only": ["secret*"], "explicit_assignments": {"secret-model": "openai"}},
        "proxy_port": 1,
    }
    with pytest.raises(ConfigError, match="must stay local"):
        Services(load_config(json.dumps(settings)), {"OROUTER_DATABASE_URL": f"sqlite:///{tmp_path}/x.sqlite3"})


async def test_a_model_that_must_stay_local_is_not_sent_to_the_cloud(tmp_path: Path) -> None:
    """Not even for an admin who writes its cloud name."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(
            tmp_path, {"one": server_entry(sim)}, model_config={"local_only": ["secret*"]}, cloud="all"
        ) as router,
        router.client(router.admin_token) as admin,
    ):
        answer = await admin.post("/api/generate", json={"model": "secret-model:cloud", "prompt": "hi"})
        seen = sim.requests_to("/api/generate")
    assert answer.status_code == 403
    assert seen == []


async def test_a_drained_server_gets_nothing_new_until_it_is_undrained(tmp_path: Path) -> None:
    """By an admin's order while the router runs; only admins may."""
    models = [model(MODEL)]
    ask = {"model": MODEL, "prompt": "hi", "stream": False}
    async with (
        OllamaSimulator(models=models) as one,
        OllamaSimulator(models=models) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two, priority=2)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        assert (await client.post("/router/servers/one/drain")).status_code == 403
        assert (await admin.post("/router/servers/nobody/drain")).status_code == 404
        assert (await admin.post("/router/servers/one/drain")).json()["draining"] is True
        drained = [(await client.post("/api/generate", json=ask)).headers["x-router-server"] for _ in range(3)]
        status = (await admin.get("/router/status")).json()["servers"]["one"]["draining"]
        await admin.post("/router/servers/one/undrain")
        back = (await client.post("/api/generate", json=ask)).headers["x-router-server"]
    assert (drained, status, back) == (["two"] * 3, True, "one")


async def test_a_drain_in_the_config_holds_from_the_start(tmp_path: Path) -> None:
    """With all servers drained the answer says why."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim, drain=True)}) as router,
        router.client() as client,
    ):
        answer = await client.post("/api/generate", json={"model": MODEL, "prompt": "hi"})
    assert answer.status_code == 503
    assert "draining" in answer.json()["error"]


async def test_models_to_keep_warm_are_loaded_without_being_asked_for(tmp_path: Path) -> None:
    """In the background, with the context that the rules pin, so that the first request does not wait for a load."""
    rules = [{"pattern": "llama3*", "num_ctx": 8192}]
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim, warm_up=[MODEL])}, model_config={"rules": rules}) as router,
        router.client() as client,
    ):
        await eventually(lambda: MODEL in router.services.fleet.snapshot.servers["one"].loaded)
        await client.post("/api/generate", json={"model": MODEL, "prompt": "hi", "stream": False})
        loads = sim.loads
    assert loads == 1
