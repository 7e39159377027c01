"""Who may come in, and in which words others are kept out."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.storage.identities import UserChange
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [], "stream": False, "max_tokens": 3}


@pytest.mark.parametrize("kind", ["bearer", "x-api-key", "basic"])
async def test_a_token_is_taken_where_clients_put_it(tmp_path: Path, kind: str) -> None:
    """Bearer, x-api-key and Basic (the password is the token) take the same way."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as client,
    ):
        basic = base64.b64encode(f"anyone:{router.token}".encode()).decode()
        headers = {
            "bearer": {"authorization": f"Bearer {router.token}"},
            "x-api-key": {"x-api-key": router.token},
            "basic": {"authorization": f"Basic {basic}"},
        }[kind]
        response = await client.post("/api/chat", json=CHAT, headers=headers)
    assert response.status_code == 200


WRONG = ["", "Bearer", "nothing", "Bearer wrong", "Bearer ' OR 1=1 --", "Bearer " + "a" * 100, "Bearer \xe9"]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_a_wrong_token_is_401_and_no_server_hears_of_it(tmp_path: Path, path: str) -> None:
    """401 with WWW-Authenticate in the dialect of the route, and bcrypt is not asked."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as client,
    ):
        before = router.services.authenticator.verifications
        for value in WRONG:
            response = await client.post(path, json=CHAT, headers=[(b"authorization", value.encode("latin-1"))])
            assert response.status_code == 401, value
            assert response.headers["www-authenticate"].startswith("Bearer")
            error = response.json()["error"]
            assert isinstance(error, str) if path == "/api/chat" else error["type"] == "authentication_error"
        assert not sim.requests_to(path)
        assert router.services.authenticator.verifications == before


async def test_two_credentials_are_refused(tmp_path: Path) -> None:
    """Which one counts must not be a guess."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        response = await client.post("/api/chat", json=CHAT, headers={"x-api-key": router.admin_token})
    assert response.status_code == 400


async def test_a_deactivated_user_is_kept_out_within_a_second(tmp_path: Path) -> None:
    """The change is seen by polling the epoch, without a restart."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        assert (await client.post("/api/chat", json=CHAT)).status_code == 200
        await router.services.users.change("alice", UserChange(active=False))
        epoch = await router.services.users.epoch()
        await eventually(lambda: router.services.authenticator._directory.epoch == epoch)
        response = await client.post("/api/chat", json=CHAT)
    assert response.status_code == 403


async def test_the_root_answers_without_a_token(tmp_path: Path) -> None:
    """The ollama command asks `HEAD /` before anything else and gives up on 401."""
    async with (
        OllamaSimulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as client,
    ):
        head, get = await client.head("/"), await client.get("/")
    assert (head.status_code, get.status_code, get.text) == (200, 200, "Ollama is running")
