"""What is configured as a server and is none, and models of which nobody can say where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.eventually import eventually
from support.other_program import other_program
from support.router import running_router, server_entry
from support.tap import closed_port

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "my secret"}], "stream": False}
QUICK = {"health_check_interval": 0.2}
OF_NO_OLLAMA = {
    "a page": ("/api/version", Answer(status=200, body=b"<html>hello</html>", content_type="text/html")),
    "no such page": ("/api/version", Answer(status=404, body=b"not found", content_type="text/plain")),
    "a door": ("/api/version", Answer(status=401, body=b"", content_type="text/plain")),
    "no list": ("/api/tags", Answer(status=404, body=b"404 page not found", content_type="text/plain")),
    "another list": ("/api/tags", Answer(status=200, body=b'{"data":[]}')),
}


@pytest.mark.parametrize("kind", OF_NO_OLLAMA)
async def test_what_is_no_ollama_gets_no_prompt(tmp_path: Path, kind: str) -> None:
    """Not even that of a mistyped model, and all that show servers say the same."""
    path, answer = OF_NO_OLLAMA[kind]
    async with OllamaSimulator(models=[model(MODEL)]) as stranger, OllamaSimulator(models=[model(MODEL)]) as real:
        stranger.misbehave(answer, path=path)
        servers = {"stranger": server_entry(stranger, priority=1), "real": server_entry(real, priority=2)}
        async with (
            running_router(tmp_path, servers, **QUICK) as router,
            router.client() as client,
            router.client(router.admin_token) as admin,
        ):
            await eventually(lambda: router.services.fleet.snapshot.servers["stranger"].up is False)
            served = await client.post("/api/chat", json=CHAT)
            typo = await client.post("/api/chat", json={**CHAT, "model": "lama3.1:8b"})
            health = (await client.get("/health")).json()["servers"]["stranger"]
            status = (await admin.get("/router/status")).json()["servers"]["stranger"]
            prompts = [one for one in stranger.requests if b"my secret" in bytes(one.body)]
            stranger.behave()
            await eventually(lambda: router.services.fleet.snapshot.servers["stranger"].installed is not None)
            back = await client.post("/api/chat", json=CHAT)
    assert (served.status_code, served.headers["x-router-server"]) == (200, "real")
    assert typo.status_code == 404
    assert prompts == []
    assert health["status"] == "unhealthy"
    assert health["error"] == status["error"]
    assert "is this Ollama?" in health["error"]
    assert (back.status_code, back.headers["x-router-server"]) == (200, "stranger")


async def test_another_program_on_the_port_gets_no_prompt(tmp_path: Path) -> None:
    """A web server in the place of a server: the typo is told as one, with the name of who could not be asked."""
    with other_program() as port:
        async with (
            OllamaSimulator(models=[model(MODEL)]) as real,
            running_router(
                tmp_path, {"web": {"host": "127.0.0.1", "port": port}, "real": server_entry(real)}, **QUICK
            ) as router,
            router.client() as client,
        ):
            answers = [
                await client.post(path, json={**CHAT, "model": "typo"})
                for path in ("/api/chat", "/v1/chat/completions")
            ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json() == {"error": "model 'typo' not found (web could not be queried)"}
    assert answers[1].json()["error"]["message"] == "model 'typo' not found (web could not be queried)"


async def test_a_server_that_was_never_reached_does_not_hide_a_typo(tmp_path: Path) -> None:
    """Unknown to all that answered: 404. What a server is known to have is 503 while that server is away."""
    with closed_port() as port:
        async with (
            OllamaSimulator(models=[model(MODEL)]) as real,
            running_router(
                tmp_path, {"never": {"host": "127.0.0.1", "port": port}, "real": server_entry(real)}, **QUICK
            ) as router,
            router.client() as client,
        ):
            typo = await client.post("/api/chat", json={**CHAT, "model": "typo"})
            real.pause()
            real.drop_connections()
            await eventually(lambda: router.services.fleet.snapshot.servers["real"].up is False)
            away = await client.post("/api/chat", json=CHAT)
    assert (typo.status_code, typo.headers["x-router-error"]) == (404, "model_not_found")
    assert "never could not be queried" in typo.json()["error"]
    assert away.status_code == 503


async def test_where_nobody_answered_nobody_knows(tmp_path: Path) -> None:
    """503: the model may well be there."""
    with closed_port() as port:
        async with (
            running_router(tmp_path, {"never": {"host": "127.0.0.1", "port": port}}, **QUICK) as router,
            router.client() as client,
        ):
            answer = await client.post("/api/chat", json=CHAT)
    assert answer.status_code == 503
