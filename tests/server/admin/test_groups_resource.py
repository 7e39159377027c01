"""Groups over HTTP and on their pages: who is in them, what they used, and what they mean for a member."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.records import make_record
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

OURS, PERSON = {"x-console": "1"}, {"accept": "text/html"}
GONE = {"gone": {"host": "127.0.0.1", "port": 9}}
HOSTS = {"openai": {"api": "openai", "host": "127.0.0.1", "port": 9, "protocol": "http"}}


async def test_groups_are_listed_with_what_their_members_used(tmp_path: Path) -> None:
    """A page at a time, as JSON and as a page; members are counted and not all named."""
    async with running_router(tmp_path, GONE) as router, router.client(router.admin_token) as admin:
        empty = (await admin.get("/router/groups")).json()
        await admin.post("/console/session", json={"token": router.admin_token}, headers=OURS)
        assert "No groups yet" in (await admin.get("/console/groups", headers=PERSON)).text
        for name in ("apes", "bees", "cats"):
            await admin.post("/router/groups", json={"name": name, "grants": {"tokens_per_day": 1000}})
        await admin.patch("/router/users/alice", json={"group": "bees"})
        now = router.services.clock.wall()
        row = make_record(1, started_at=now, user="alice", prompt_tokens=40, completion_tokens=2)
        await router.services.request_log.insert([row])
        first = (await admin.get("/router/groups", params={"limit": 2})).json()
        rest = (await admin.get("/router/groups", params={"after": first["next"]})).json()
        none = (await admin.get("/console/groups?search=zebra", headers=PERSON)).text
        page = (await admin.get("/console/groups?limit=2", headers=PERSON)).text
    assert empty == {"groups": [], "next": None, "matching": 0}
    assert [(one["name"], one["member_count"]) for one in first["groups"]] == [("apes", 0), ("bees", 1)]
    assert (first["groups"][1]["requests_7d"], first["groups"][1]["tokens_7d"]) == (1, 42)
    assert (first["next"], first["matching"]) == ("bees", 3)
    assert ([one["name"] for one in rest["groups"]], rest["next"]) == (["cats"], None)
    assert "No group has this in its name" in none
    assert "<h1>3 groups</h1>" in page
    row_of_bees = re.search(r"groups/bees.*?</tr>", page, re.DOTALL)
    assert row_of_bees is not None
    assert "1,000 tokens per day" in row_of_bees[0]
    assert re.search(r'requests of 7 days">1<.*tokens of 7 days">42<', row_of_bees[0], re.DOTALL)
    assert re.search(r'rel="next" href="\?limit=2&amp;after=bees"', page)


async def test_what_a_group_means_is_told_now_and_before_it_is_saved(tmp_path: Path) -> None:
    """For a member of the role user without own grants; a change that is asked about is not made."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b"), model("qwen3:8b")]) as sim,
        running_router(
            tmp_path, {"one": server_entry(sim)}, external_hosts=HOSTS, external_hosts_for="granted"
        ) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.post("/router/groups", json={"name": "a/team", "grants": {"models": ["llama3*"]}})
        path = "/router/groups/a%2Fteam"
        view = (await admin.get(f"{path}/rights")).json()
        change = {"grants": {"models": None, "requests_per_minute": 60}}
        asked = (await admin.post(f"{path}/rights", json=change)).json()
        assert (await admin.get(f"{path}/rights")).json() == view
        wrong = await admin.post(f"{path}/rights", json={"grants": {"networks": ["nowhere"]}})
        await admin.post("/console/session", json={"token": router.admin_token}, headers=OURS)
        alone = (await admin.get("/console/groups/a%2Fteam", headers=PERSON)).text
        await admin.patch("/router/users/alice", json={"group": "a/team", "grants": {"models": ["qwen*"]}})
        page = (await admin.get("/console/groups/a%2Fteam", headers=PERSON)).text
        people = (await admin.get("/console/people?group=a%2Fteam", headers=PERSON)).text
        nobody = (await admin.get("/console/people?group=nobody", headers=PERSON)).text
        unknown = await admin.get("/console/groups/nobody", headers=PERSON)
    assert view["sentence"] == "A user in a/team may use 1 of 2 models and 0 of 1 external host; not: qwen3:8b, openai."
    told = {right["name"]: (right["text"], right["origin"]) for right in view["rights"]}
    assert (told["models"], told["max_wait"], told["unload"]) == (
        ("llama3*", "group"), ("600 s", "setting"), ("no", "role"),
    )  # fmt: skip
    assert [(one["name"], one["allowed"], one["why"]) for one in view["models"]] == [
        ("llama3.2:3b", True, "the group's llama3*"), ("qwen3:8b", False, "none of the group's model patterns matches"),
    ]  # fmt: skip
    assert asked["sentence"].startswith("A user in a/team may use 2 of 2 models")
    assert (wrong.status_code, unknown.status_code) == (400, 404)
    assert ("Nobody is in it" in alone, 'data-act="remove"' in alone) == (True, True)
    assert (f"<h1>{view['sentence']}</h1>" in page, 'data-act="remove"' in page) == (True, False)
    assert 'href="../people?group=a/team">1 member</a>' in page
    assert ("people/alice" in people, "people/root" in people) == (True, False)
    assert "No user matches this filter" in nobody


async def test_a_sentence_names_three_of_what_is_left_out(tmp_path: Path) -> None:
    """Those that are many are counted."""
    async with (
        OllamaSimulator(models=[model(f"m{number}:8b") for number in range(6)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.post("/router/groups", json={"name": "team", "grants": {"models": ["m5*"]}})
        sentence = (await admin.get("/router/groups/team/rights")).json()["sentence"]
    assert sentence == "A user in team may use 1 of 6 models; not: m0:8b, m1:8b, m2:8b and 2 more."


async def test_an_expired_group_is_the_first_thing_said(tmp_path: Path) -> None:
    """Its members' own end would come before the group's."""
    async with running_router(tmp_path, GONE) as router, router.client(router.admin_token) as admin:
        await admin.post("/router/groups", json={"name": "team", "grants": {"expires_at": 1.0}})
        sentence = (await admin.get("/router/groups/team/rights")).json()["sentence"]
    assert sentence.startswith("team's access has expired")


async def test_what_is_done_to_a_group_is_in_the_trail(tmp_path: Path) -> None:
    """From the console as from elsewhere: who, what, and how it came."""
    async with running_router(tmp_path, GONE) as router, router.client(router.admin_token) as admin:
        browser = router.client("")
        await browser.post("/console/session", json={"token": router.admin_token}, headers=OURS)
        acts = "/console/act/groups"
        assert (await browser.post(acts, json={"name": "team"}, headers=OURS)).status_code == 201
        changed = await browser.patch(f"{acts}/team", json={"grants": {"tokens_per_day": 9}}, headers=OURS)
        assert changed.json()["grants"]["tokens_per_day"] == 9
        assert (await browser.delete(f"{acts}/team", headers=OURS)).json()["deleted"] is True
        await browser.aclose()
        entries = (await admin.get("/router/audit", params={"action": "group"})).json()["entries"]
    assert [(one["action"], one["subject"], one["actor"], one["via"]) for one in entries] == [
        (f"group.{what}", "team", "root", "console") for what in ("delete", "change", "create")
    ]
