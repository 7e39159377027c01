"""One token for many people: limits, rights, rows and statistics are those of the person who is named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.storage.identities import UserChange
from support.eventually import eventually_async
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
MAKES = {"persons": {"unknown": "make"}}


@asynccontextmanager
async def speaking(
    folder: Path, *, speaks_for: str | None = "any", group: str | None = None, **config: Any
) -> AsyncIterator[tuple[RunningRouter, httpx.AsyncClient]]:
    """A router whose user alice may speak for others, and her client."""
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=3) as sim,
        running_router(folder, {"one": server_entry(sim)}, probe_timeout=60, **config) as router,
        router.client() as client,
    ):
        if group is not None:
            await router.services.groups.create(group)
        grants: Mapping[str, Any] = {"speaks_for": speaks_for}
        await router.services.users.change("alice", UserChange(grants=grants, moves=group is not None, group=group))
        await router.services.authenticator.refresh()
        yield router, client


async def ask(client: httpx.AsyncClient, person: str | None, **body: Any) -> httpx.Response:
    """Ask for one person, as Open WebUI does."""
    headers = {} if person is None else {"x-openwebui-user-email": person}
    return await client.post("/api/chat", json={**CHAT, **body}, headers=headers)


async def test_rows_and_statistics_are_the_person_s(tmp_path: Path) -> None:
    """The row says who asked for them; a request that names nobody is the client's own, and all that it sees."""
    async with speaking(tmp_path, **MAKES) as (router, client):
        for person in ("ann@example.org", "bob@example.org", "ann@example.org", None):
            assert (await ask(client, person)).status_code == 200
        rows = await router.rows(4)
        names = {user.name: user for user in await router.services.users.list()}
        listed = (await client.get("/router/requests", params={"text": "alice"})).json()["requests"]
        others = await client.get(f"/router/requests/{rows[1].id}")
    assert ([row["user"] for row in listed], others.status_code) == (["alice"], 404)
    assert [row.user for row in rows] == ["alice", "ann@example.org", "bob@example.org", "ann@example.org"]
    assert [row.speaker for row in rows] == [None, "alice", "alice", "alice"]
    assert rows[1].reason.startswith("alice on behalf of ann@example.org")
    assert names["ann@example.org"].requests == 2
    assert (names["ann@example.org"].role, names["ann@example.org"].tokens) == ("user", ())


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/chat/completions", {"user": "ann"}),
        ("/v1/chat/completions", {"safety_identifier": "ann"}),
        ("/v1/messages", {"metadata": {"user_id": "ann"}, "max_tokens": 9}),
        ("/v1/responses", {"input": "hi", "user": "ann"}),
    ],
)
async def test_a_body_names_the_person_too(tmp_path: Path, path: str, named: dict[str, Any]) -> None:
    """As OpenAI's and Anthropic's clients do."""
    async with speaking(tmp_path, **MAKES) as (router, client):
        answer = await client.post(path, json={**CHAT, **named})
        (row,) = await router.rows()
    assert answer.status_code == 200, answer.text
    assert row.user == "ann"


async def test_limits_are_counted_by_person(tmp_path: Path) -> None:
    """One who has used up theirs does not stop the others; the header fields tell what is left of theirs."""
    async with speaking(tmp_path, group="chat", **MAKES) as (router, client):
        await router.services.groups.set_grants("chat", {"requests_per_minute": 2})
        await router.services.authenticator.refresh()
        ann = [await ask(client, "ann") for _ in range(3)]
        bob = await client.post("/v1/chat/completions", json={**CHAT, "user": "bob"})
    assert [answer.status_code == 429 for answer in ann] == [False, False, True]
    assert bob.status_code != 429
    assert bob.headers["x-ratelimit-remaining-requests"] == "1"


async def test_without_the_right_names_mean_nothing(tmp_path: Path) -> None:
    """They are ignored, and nobody is made."""
    async with speaking(tmp_path, speaks_for=None, **MAKES) as (router, client):
        answer = await ask(client, "root", user="root")
        (row,) = await router.rows()
        users = {user.name for user in await router.services.users.list()}
    assert (answer.status_code, row.user) == (200, "alice")
    assert users == {"alice", "root"}


async def test_an_administrator_is_spoken_for_as_a_user(tmp_path: Path) -> None:
    """A chat page that names one deletes no models."""
    async with speaking(tmp_path) as (router, client):
        named = {"x-openwebui-user-email": "root"}
        refused = await client.request("DELETE", "/api/delete", json={"model": MODEL}, headers=named)
        allowed = await ask(client, "root")
        rows = await router.rows(2)
    assert (refused.status_code, allowed.status_code) == (403, 200)
    assert rows[0].user == "root"


async def test_unknown_people_are_refused_unless_the_config_makes_them(tmp_path: Path) -> None:
    """The default; the text says what can be done."""
    async with speaking(tmp_path) as (router, client):
        answer = await ask(client, "nobody@example.org")
        users = {user.name for user in await router.services.users.list()}
    assert answer.status_code == 403
    assert "persons.unknown" in answer.json()["error"]
    assert users == {"alice", "root"}


async def test_a_client_cannot_make_a_million_people(tmp_path: Path) -> None:
    """There are as many as the setting says, and names are names."""
    async with speaking(tmp_path, persons={"unknown": "make", "max_users": 3}) as (router, client):
        answers = [await ask(client, f"p{number}") for number in range(5)]
        again = await ask(client, "p1")
        long = await ask(client, "x" * 101)
        users = {user.name for user in await router.services.users.list()}
    assert [answer.status_code for answer in answers] == [200, 200, 200, 403, 403]
    assert (again.status_code, long.status_code) == (200, 400)
    assert users == {"alice", "root", "p0", "p1", "p2"}


async def test_the_own_group_is_as_far_as_group_reaches(tmp_path: Path) -> None:
    """Members, and new people who become some; others are refused."""
    async with speaking(tmp_path, speaks_for="group", group="chat", **MAKES) as (router, client):
        new, outside = await ask(client, "ann"), await ask(client, "root")
        groups = {user.name: user.group for user in await router.services.users.list()}
    assert (new.status_code, outside.status_code) == (200, 403)
    assert groups["ann"] == "chat"


async def test_a_deactivated_person_is_not_spoken_for(tmp_path: Path) -> None:
    """As soon as the change is seen."""
    async with speaking(tmp_path, **MAKES) as (router, client):
        assert (await ask(client, "ann")).status_code == 200
        await router.services.users.change("ann", UserChange(active=False))

        async def is_refused() -> bool:
            return (await ask(client, "ann")).status_code == 403

        await eventually_async(is_refused)


async def test_a_person_s_grants_hold(tmp_path: Path) -> None:
    """And not those of the client, where both have some."""
    async with speaking(tmp_path, **MAKES) as (router, client):
        await ask(client, "ann")
        await router.services.users.set_grants("ann", {"models": ["qwen*"]})

        async def is_refused() -> bool:
            return (await ask(client, "ann")).status_code == 403

        await eventually_async(is_refused)
        assert (await ask(client, "bob")).status_code == 200


async def test_a_header_of_the_operator_s_choice(tmp_path: Path) -> None:
    """For whatever stands in front."""
    async with speaking(tmp_path, persons={"unknown": "make", "header": "X-Remote-User"}) as (router, client):
        await client.post("/api/chat", json=CHAT, headers={"x-remote-user": "ann"})
        (row,) = await router.rows()
    assert row.user == "ann"
