"""One request's page: its attempts, what was changed of it, and what is taken away from there."""

from __future__ import annotations

import asyncio
import json
import re
from html import unescape
from pathlib import Path

import pytest

from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.testing import Answer, OllamaSimulator, model
from server.console.test_pages import signed_in
from support.eventually import eventually
from support.records import make_record
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio
CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}]}


async def test_each_attempt_is_told_with_its_end(tmp_path: Path) -> None:
    """The server that was busy with its status, the one that answered with its parts; JSON and page are one view."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as first,
        OllamaSimulator(models=[model("llama3.2:3b")]) as second,
        running_router(tmp_path, {"first": server_entry(first), "second": server_entry(second, priority=2)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        first.misbehave(Answer(status=503, body=b'{"error":"busy"}'), path="/api/chat")
        await client.post("/api/chat", json=CHAT)
        (row,) = await router.rows(1)
        shown = (await admin.get(f"/router/requests/{row.id}")).json()
        browser = await signed_in(router, router.admin_token)
        page = (await browser.get(f"/console/requests/{row.id}")).text
        await browser.aclose()
    assert [(one["server"], one["end"], one["status"]) for one in shown["tries"]] == [
        ("first", "rejected", 503),
        ("second", "answered", 200),
    ]
    assert shown["decision"]["server"] == "first"
    assert "rejected <code>503</code>" in page
    copied = json.loads(unescape(re.findall(r'<pre id="request-json">(.*?)</pre>', page, re.DOTALL)[0]))
    assert copied == shown
    assert f"/console/requests/{row.id}</code>" in page


async def test_requests_of_a_group_are_those_of_who_is_in_it_now(tmp_path: Path) -> None:
    """In the log and in progress; of a group that is not there, none."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=5_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
        router.client() as alice,
    ):
        for name in ("team", "empty"):
            await admin.post("/router/groups", json={"name": name})
        await admin.patch("/router/users/alice", json={"group": "team"})
        rows = [make_record(number, user=user) for number, user in enumerate(["alice", "bob", None, "alice"])]
        await router.services.request_log.insert(rows)
        async with alice.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            views = {
                name: (await admin.get("/router/requests", params={"group": name})).json()
                for name in ("team", "empty", "nobody")
            }
    assert [row["id"] for row in views["team"]["requests"]] == ["request-3", "request-0"]
    assert [row["user"] for row in views["team"]["active"]] == ["alice"]
    assert [(views[name]["requests"], views[name]["active"]) for name in ("empty", "nobody")] == [([], [])] * 2


async def test_a_request_is_found_as_soon_as_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its row is in the log, as long as the database takes none."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):

        async def fails(*_: object, **__: object) -> None:
            raise StorageUnavailable("the database is away")

        monkeypatch.setattr(router.services.request_log, "insert", fails)
        id_ = (await client.post("/api/chat", json=CHAT)).headers["x-router-request-id"]
        found = await client.get(f"/router/requests/{id_}")
        others = await admin.post("/router/users", json={"name": "bob"})
        await router.services.authenticator.refresh()
        async with router.client(others.json()["token"]) as bob:
            hidden = (await bob.get(f"/router/requests/{id_}")).status_code
        monkeypatch.undo()
        await router.rows(1)
    assert (found.status_code, found.json()["user"], hidden) == (200, "alice", 404)


async def test_what_policy_changed_and_what_was_left_are_told(tmp_path: Path) -> None:
    """An alias that a rule bounds, and the user's limits; a routine request keeps no decision for it."""
    rules = {"aliases": {"best": "llama3.2:3b"}}
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, model_config=rules) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        await admin.patch("/router/users/alice", json={"grants": {"requests_per_minute": 30}})
        await router.services.authenticator.refresh()
        await client.post("/api/chat", json=CHAT)
        await client.post("/api/chat", json={**CHAT, "model": "best"})
        row = next(row for row in await router.rows(2) if row.model_asked == "best")
        shown = (await admin.get(f"/router/requests/{row.id}")).json()
        browser = await signed_in(router, router.admin_token)
        page = (await browser.get(f"/console/requests/{row.id}")).text
        await browser.aclose()
    assert shown["decision"] is None
    assert len(shown["changes"]) == 1
    assert shown["limits"]["requests"]["limit"] == 30
    assert shown["changes"][0] in unescape(page)
    assert "28 of 30 left" in page
    assert "nothing had to be forecast" in page


async def test_columns_and_filters_are_in_the_address(tmp_path: Path) -> None:
    """The same address is the same view: columns, text, an id alone, times in UTC; every link on it keeps the rest."""
    began = 1_790_000_000.0
    known = f"{int(began * 1000):012x}{7:016x}"
    async with running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router:
        rows = [make_record(1, id=known, started_at=began, cached_tokens=1_234, bytes_out=5_678, error="CUDA error")]
        await router.services.request_log.insert([*rows, make_record(2, started_at=began + 60.0)])
        browser = await signed_in(router, router.admin_token)
        usual = (await browser.get("/console/requests")).text
        chosen = (await browser.get("/console/requests?text=cuda&columns=bytes,place,nonsense")).text
        for query, count in [
            (f"text={known}", 1),
            ("since=2026-09-21T14:14", 1),
            ("before=2026-09-21T14:14", 1),
        ]:
            found = (await browser.get(f"/console/requests?{query}")).text
            assert found.count('<tr id="row-') == count, query
            assert 'value="2026-09-21T14:14:00"' in found or query.startswith("text"), query
        refused = [
            (await browser.get(f"/console/requests?{query}")).status_code
            for query in ("since=soon", "since=", "text=%00")
        ]
        await browser.aclose()
    assert refused == [400] * 3
    assert _headings(usual)[5:11] == [
        "Place",
        "Waited",
        "First token",
        "Total",
        "Where it went",
        "Tokens in / cached / out",
    ]
    assert "1,234" in usual
    assert _headings(chosen) == ["Time", "Place", "Bytes in / out"]
    assert "5,678" in chosen
    assert chosen.count('<tr id="row-') == 1
    assert "?text=cuda&amp;columns=time%2Cplace#columns" in chosen or "columns=time%2Cplace&amp;text=cuda" in chosen
    assert 'name="columns" value="bytes,place,nonsense"' in chosen


async def test_what_runs_is_in_its_place_of_the_list(tmp_path: Path) -> None:
    """A row of the same table, by when it began; a viewer is offered no end of it."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=5_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        made = (await admin.post("/router/users", json={"name": "vic", "role": "viewer"})).json()
        await router.services.authenticator.refresh()
        async with client.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as stream:
            lines = stream.aiter_lines()  # a generator that is thrown away closes the stream
            await anext(lines)
            id_ = stream.headers["x-router-request-id"]
            await admin.post("/api/chat", json={**CHAT, "model": "nonsense"})
            (later,) = await router.rows(1)
            pages = []
            for token in (router.admin_token, made["token"]):
                browser = await signed_in(router, token)
                pages.append((await browser.get("/console/requests")).text)
                await browser.aclose()
    assert [re.findall(r'<tr id="row-(\w+)"', page) for page in pages] == [[later.id, id_]] * 2
    assert ['data-act="cancel"' in page for page in pages] == [True, False]


async def test_a_request_in_progress_is_told_as_far_as_it_is(tmp_path: Path) -> None:
    """Waiting: its place as it is now; answering: its parts so far; the own ones alone; then what became of it."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=5_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        made = (await admin.post("/router/users", json={"name": "bob"})).json()
        await router.services.authenticator.refresh()
        async with (
            client.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as stream,
            asyncio.TaskGroup() as tasks,
        ):
            lines = stream.aiter_lines()  # a generator that is thrown away closes the stream
            await anext(lines)
            id_ = stream.headers["x-router-request-id"]
            for number in (1, 2):
                tasks.create_task(admin.post("/api/chat", json=CHAT))
                await eventually(lambda number=number: router.services.admission.waiting == number)  # type: ignore[misc]
            first, second = [
                row for row in (await admin.get("/router/requests")).json()["active"] if row["user"] == "root"
            ]
            shown = (await client.get(f"/router/requests/{id_}")).json()
            async with router.client(made["token"]) as bob:
                assert (await bob.get(f"/router/requests/{id_}")).status_code == 404
            browser = await signed_in(router, router.token)
            page = (await browser.get(f"/console/requests/{id_}")).text
            await admin.post(f"/router/requests/{first['id']}/cancel")
            waits = (await admin.get(f"/router/requests/{second['id']}")).json()
            sim.time_scale = 0.0
            await admin.post(f"/router/requests/{id_}/cancel")
        await router.rows(3)
        ended = (await browser.get(f"/console/requests/{id_}")).text
        await browser.aclose()
    assert (shown["outcome"], shown["server"], shown["active"]["state"]) == ("in_progress", "one", "answering")
    assert sum(phase["ms"] for phase in shown["phases"]) == pytest.approx(shown["total_ms"], abs=1)
    assert re.fullmatch(r"In progress for .* m?s: (answering|writing, .*), on one\.", shown["sentence"])
    assert ("data-live=" in page, 'data-act="cancel"' in page, "Decide again" in page) == (True, True, False)
    assert (second["queue_position"], waits["active"]["queue_position"]) == (2, 1)
    assert re.fullmatch(
        r"In progress for .* m?s: 1st in line, starts .*, waiting for a slot on one\.", waits["sentence"]
    )
    assert waits["phases"][0]["name"] == "queue"
    assert ("data-live=" in ended, "cancelled by root" in ended) == (False, True)


def _headings(page: str) -> list[str]:
    return re.findall(r'<th scope="col"[^>]*>(.*?)</th>', page)
