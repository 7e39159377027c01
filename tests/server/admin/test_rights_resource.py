"""One user's rights, as a page and as JSON; links that let somebody in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.records import make_record
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

OURS, PERSON = {"x-console": "1"}, {"accept": "text/html"}
GONE = {"gone": {"host": "127.0.0.1", "port": 9}}
HOSTS = {"openai": {"api": "openai", "host": "127.0.0.1", "port": 9, "protocol": "http"}}


async def claimed(router: RunningRouter, link: str) -> tuple[httpx.AsyncClient, httpx.Response]:
    """A browser that has opened a link, and what it was told."""
    browser = router.client("")
    secret = link.partition("#claim=")[2]
    return browser, await browser.post("/console/claim", json={"claim": secret}, headers=OURS)


async def test_each_right_and_each_model_says_why(tmp_path: Path) -> None:
    """Own grants before the group's; the sentence counts; the page shows what the route tells."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b"), model("qwen3:8b")]) as sim,
        running_router(
            tmp_path, {"one": server_entry(sim)}, external_hosts=HOSTS, external_hosts_for="granted"
        ) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.post("/router/groups", json={"name": "team", "grants": {"models": ["llama3*"]}})
        await admin.patch("/router/users/alice", json={"group": "team", "grants": {"requests_per_minute": 60}})
        view = (await admin.get("/router/users/alice/rights")).json()
        assert view["sentence"] == "alice may use 1 of 2 models and 0 of 1 external host; not: qwen3:8b, openai."
        told = {right["name"]: (right["text"], right["origin"]) for right in view["rights"]}
        assert told["models"] == ("llama3*", "group")
        assert told["requests_per_minute"] == ("60", "own")
        assert told["max_wait"] == ("600 s", "setting")
        assert [(one["name"], one["allowed"], one["why"]) for one in view["models"]] == [
            ("llama3.2:3b", True, "the group's llama3*"),
            ("qwen3:8b", False, "none of the group's model patterns matches"),
        ]  # fmt: skip
        assert [one["why"] for one in view["hosts"]] == ["needs a grant: `external_hosts_for`"]
        await admin.post("/console/session", json={"token": router.admin_token}, headers=OURS)
        page = (await admin.get("/console/people/alice", headers=PERSON)).text
        assert f"<h1>{view['sentence']}</h1>" in page
        assert re.search(r"requests per minute</td><td><bdi>60</bdi></td><td>own", page)
        assert "none of the group&#39;s model patterns matches" in page
        assert (await admin.get("/router/users/nobody/rights")).json()["code"] == "unknown_user"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"active": False}, "alice is deactivated: no request is answered."),
        ({"grants": {"expires_at": 1.0}}, "alice's access has expired: no request is answered."),
        ({"role": "viewer"}, "alice may read lists, metrics and the console, and use no model."),
        ({"grants": {"models": []}}, "alice may use 0 of 1 model; not: llama3.2:3b."),
    ],
)
async def test_what_shuts_somebody_out_is_the_first_thing_said(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    """Not a table of rights of which none helps."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.patch("/router/users/alice", json=change)
        assert (await admin.get("/router/users/alice/rights")).json()["sentence"] == sentence


async def test_a_person_s_page_has_the_last_requests_and_what_ends_access(tmp_path: Path) -> None:
    """Ten of them, each led to; a token is revoked there, and the user deleted, but nobody deletes themselves."""
    async with running_router(tmp_path, GONE) as router, router.client(router.admin_token) as admin:
        rows = [make_record(number, status=404, error="x", attempts=0) for number in range(12)]
        newest = make_record(12, started_at=router.services.clock.wall())
        await router.services.request_log.insert([*rows, newest])
        await admin.post("/console/session", json={"token": router.admin_token}, headers=OURS)
        page = (await admin.get("/console/people/alice", headers=PERSON)).text
        own = (await admin.get("/console/people/root", headers=PERSON)).text
    assert re.findall(r'href="../requests/request-(\d+)"', page) == [str(number) for number in range(12, 2, -1)]
    assert "refused <small>404</small>" in page
    assert "Delete alice, with 1 token and every row of the log, 1 of them of the last seven days?" in page
    assert re.findall(r'data-path="(\S+)" data-name="(\w+)" data-next="(\S+)"', page) == [
        ("users/alice", "alice", "people"), ("users/alice/tokens/default", "default", "people/alice"),
    ]  # fmt: skip
    assert ('data-path="users/root" data-name' in own, "The log has none" in own) == (False, True)


async def test_rights_are_told_before_they_are_saved(tmp_path: Path) -> None:
    """As they would be after the same body as PATCH; nothing is changed, and what cannot be saved is refused alike."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b"), model("qwen3:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.post("/router/groups", json={"name": "team", "grants": {"models": ["llama3*"]}})
        change = {"group": "team", "grants": {"requests_per_minute": 60}}
        told = (await admin.post("/router/users/alice/rights", json=change)).json()
        assert told["sentence"] == "alice may use 1 of 2 models; not: qwen3:8b."
        assert (await admin.get("/router/users/alice/rights")).json()["sentence"] == "alice may use 2 of 2 models."
        await admin.patch("/router/users/alice", json=change)
        assert (await admin.get("/router/users/alice/rights")).json() == told
        wrong = await admin.post("/router/users/alice/rights", json={"group": "nobody"})
        assert (wrong.status_code, wrong.json()["code"]) == (404, "unknown_group")


async def test_whoever_is_invited_signs_in_once_and_gets_a_token(tmp_path: Path) -> None:
    """The link alone was sent; the token is in the answer to the one who opened it, and works."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        made = (await admin.post("/router/users", json={"name": "carol", "invite": True})).json()
        assert made["token"] is None
        assert made["invitation"]["link"].startswith(f"{router.url}/console/#claim=")
        assert made["invitation"]["expires_at"] == pytest.approx(router.services.clock.wall() + 72 * 3600, abs=60)
        carol, told = await claimed(router, made["invitation"]["link"])
        assert (told.json()["user"], told.json()["role"]) == ("carol", "user")
        assert (await carol.get("/console/", headers=PERSON)).status_code == 200
        async with router.client(told.json()["token"]) as client:
            assert (await client.get("/router/me")).json()["name"] == "carol"
        again, refused = await claimed(router, made["invitation"]["link"])
        assert refused.status_code == 401
        second = (await admin.post("/router/users/carol/invitation")).json()["link"]
        browser, told = await claimed(router, second)
        assert told.json() == {"user": "carol", "role": "user"}
        trail = (await admin.get("/router/audit", params={"limit": 10})).json()["entries"]
        assert [(entry["action"], entry["actor"], entry["subject"]) for entry in trail[:4]][::-1] == [
            ("user.create", "root", "carol"), ("user.invite", "root", "carol"), ("token.create", "carol", "carol"),
            ("user.invite", "root", "carol"),
        ]  # fmt: skip
        for one in (carol, again, browser):
            await one.aclose()


async def test_a_link_that_is_withdrawn_opens_nothing(tmp_path: Path) -> None:
    """Nor does that of somebody who was shut out meanwhile; no token is made for a link that does not open."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
    ):
        links = [
            (await admin.post("/router/users", json={"name": name, "invite": True})).json()["invitation"]["link"]
            for name in ("carol", "dora", "emma")
        ]
        assert (await admin.delete("/router/users/carol/invitation")).json() == {"user": "carol", "withdrawn": 1}
        await admin.patch("/router/users/dora", json={"active": False})
        await admin.patch("/router/users/emma", json={"grants": {"networks": ["10.0.0.0/8"]}})
        for link in links:
            browser, told = await claimed(router, link)
            assert (told.status_code, told.json()["error"]) == (401, "this token or link is not valid")
            await browser.aclose()
        for name in ("carol", "dora", "emma"):
            assert (await admin.get(f"/router/users/{name}/tokens")).json() == {"tokens": []}
