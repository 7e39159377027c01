"""`orouter servers`, `models`, `requests`, `me` and `console`: what a running router tells, from a shell."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from msgspec.structs import replace

from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.records import make_record
from support.router import RunningRouter, running_router, server_entry
from support.warm_orouter import run_warm

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


async def orouter(router: RunningRouter, *arguments: str, token: str | None = None) -> tuple[int | None, str, str]:
    """The command's exit code and what it wrote."""
    environment = {**os.environ, "OROUTER_TOKEN": token or router.admin_token, "NO_COLOR": "1"}
    done = await asyncio.to_thread(run_warm, *arguments, "--url", router.url, environment=environment)
    return done.code, done.stdout, done.stderr


async def as_json(router: RunningRouter, *arguments: str, token: str | None = None) -> Any:
    """What the command prints with `--json`."""
    code, out, err = await orouter(router, *arguments, "--json", token=token)
    assert code == 0, err
    return json.loads(out)


async def test_servers_are_shown_drained_and_taken_back(tmp_path: Path) -> None:
    """The same view as the page's; an unknown server is named in the error."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        assert (await as_json(router, "servers", "list"))["servers"][0]["state"] == "up"
        assert (await orouter(router, "servers", "drain", "one"))[1] == "one drains, 0 in flight\n"
        assert (await as_json(router, "servers", "show", "one"))["state"] == "draining"
        assert (await orouter(router, "servers", "show", "one"))[1].startswith("one is draining since 2")
        assert (await orouter(router, "servers", "undrain", "one"))[1] == "one takes requests again\n"
        assert (await orouter(router, "servers", "probe", "one"))[1].startswith("one answered in ")
        code, _, err = await orouter(router, "servers", "show", "two")
        assert code == 1
        assert "no server 'two'" in err


async def test_a_server_s_name_may_hold_what_paths_are_made_of(tmp_path: Path) -> None:
    """It is drained by its name, whatever is in it."""
    async with (
        OllamaSimulator() as sim,
        running_router(tmp_path, {"rack 1/a,0?": server_entry(sim)}) as router,
    ):
        assert (await orouter(router, "servers", "drain", "rack 1/a,0?"))[1] == "rack 1/a,0? drains, 0 in flight\n"


async def test_models_and_where_they_fit(tmp_path: Path) -> None:
    """A plain user lists what is allowed; who would get it is for viewers and admins."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        listed = await as_json(router, "models", "list", token=router.token)
        assert [one["name"] for one in listed["models"]] == ["llama3.2:3b"]
        assert "one" in (await orouter(router, "models", "show", "llama3.2:3b"))[1]
        assert (await as_json(router, "models", "fit", "llama3.2:3b", "--context", "8192"))["server"] == "one"
        smaller = await as_json(router, "models", "fit", "llama3.2:3b", "--kv-type", "q4_0")
        assert "KV q4_0" in smaller["candidates"][0]["memory"]["text"]
        code, _, err = await orouter(router, "models", "fit", "llama3.2:3b", token=router.token)
        assert code == 1
        assert "needs the token of an admin or a viewer" in err


async def test_requests_are_listed_and_told(tmp_path: Path) -> None:
    """From the list to one request's sentence; users see their own; pages follow each other."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        for _ in range(3):
            await client.post("/api/chat", json=CHAT)
        await admin.post("/api/chat", json={**CHAT, "model": "nonsense"})
        sim.misbehave(Answer(status=503), path="/api/chat", times=1)
        await client.post("/api/chat", json=CHAT)
        await router.rows(5)
        narrowed = ("--text", "NONSENSE", "--since", "1h", "--before", "0s")
        refused = await as_json(router, "requests", "list", "--ending", "refused", *narrowed)
        assert [row["error_code"] for row in refused["requests"]] == ["model_not_found"]
        first = await as_json(router, "requests", "list", "--limit", "2", "--ending", "ok", token=router.token)
        assert first["about"] is None
        newest = (await orouter(router, "requests", "list", "--limit", "2"))[2]
        assert re.search(r"^more, of about 5: --cursor ", newest, re.MULTILINE)
        again = ("--ending", "ok", "--cursor", first["next"])
        rest = await as_json(router, "requests", "list", *again, token=router.token)
        assert len({row["id"] for page in (first, rest) for row in page["requests"]}) == 3
        told = (await orouter(router, "requests", "show", first["requests"][0]["id"]))[1]
        assert re.match(r"Took \d+ ms", told)
        assert "attempt on" not in told
        broken = await as_json(router, "requests", "list", "--ending", "error", "--limit", "1")
        told = (await orouter(router, "requests", "show", broken["requests"][0]["id"]))[1]
        assert re.search(r"^one .* rejected 503$", told, re.MULTILINE)
        told = (await orouter(router, "series"))[1]
        assert re.match(r"5 requests, \d failed; first token after .+\.\n", told)
        assert len((await as_json(router, "series", "week"))["steps"]) == 168
        again = (await orouter(router, "requests", "show", first["requests"][0]["id"], "--replay"))[1]
        assert re.match(r"now to one: .+; then to one\n", again)
        assert re.search(r"^fastest +one ", again, re.MULTILINE)
        assert (await orouter(router, "requests", "cancel", first["requests"][0]["id"]))[0] == 1


async def test_whose_token_asked_is_told_with_the_user(tmp_path: Path) -> None:
    """In the list and of one request; a request of the user's own names the user alone."""
    async with running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router:
        now = router.services.clock.wall()
        ours = [f"{int(now * 1000):012x}{number:016x}" for number in range(2)]
        rows = [make_record(number, id=ours[number], started_at=now, user="ann") for number in range(2)]
        await router.services.request_log.insert([replace(rows[0], speaker="webui"), rows[1]])
        listed = (await orouter(router, "requests", "list"))[1]
        told = [(await orouter(router, "requests", "show", one))[1] for one in ours]
        assert [row["speaker"] for row in (await as_json(router, "requests", "list"))["requests"]] == [None, "webui"]
    assert listed.count("ann by webui ") == 1
    assert ["sent for ann by webui\n" in text for text in told] == [True, False]


async def test_a_request_in_progress_is_listed_and_ended(tmp_path: Path) -> None:
    """Above those of the log, by an id that `cancel` takes; a filter holds for it, too."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=5_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        client.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as stream,
    ):
        lines = stream.aiter_lines()
        await anext(lines)
        async with router.client(router.admin_token) as admin:
            chosen = {"server": "one", "model": "llama3.2:3b", "slower_than": "0"}
            (running,) = (await admin.get("/router/requests", params=chosen)).json()["active"]
            for query in ("ending=ok", "server=other", "model=other", "slower_than=1000000", "text=other"):
                assert (await admin.get(f"/router/requests?{query}")).json()["active"] == []
        listed = (await orouter(router, "requests", "list"))[1]
        assert re.search(rf"now +alice .* (answering|writing, ).* {running['id']}\n", listed)
        told = (await orouter(router, "requests", "show", running["id"]))[1]
        assert re.match(r"In progress for .* on one\.\n", told)
        assert (await orouter(router, "requests", "cancel", running["id"]))[0] == 0
        told = ""
        with suppress(httpx.RemoteProtocolError):
            async for line in lines:
                told = line
        assert "cancelled by root" in told


async def test_the_audit_trail_and_the_state_of_a_router_elsewhere(tmp_path: Path) -> None:
    """As the commands on its machine print them, without a config; its servers are told with a token."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim), "off": {"host": "127.0.0.1", "port": 2}}) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.post("/router/servers/one/drain")
        (entry,) = await as_json(router, "audit", "list", "--action", "server.drain")
        assert (entry["actor"], entry["via"], entry["subject"]) == ("root", "http", "one")
        assert "server.drain" in (await orouter(router, "audit", "list", "--format", "csv"))[1]
        code, _, err = await orouter(router, "audit", "list", token=router.token)
        assert (code, "needs an admin's token" in err) == (1, True)
        told = await as_json(router, "status")
        assert {name: one["status"] for name, one in told["servers"].items()} == {"one": "healthy", "off": "unhealthy"}
        assert told["router"]["running"]
        assert re.search(r"^one +healthy ", (await orouter(router, "status"))[1], re.MULTILINE)


async def test_usage_as_a_table_and_as_csv(tmp_path: Path) -> None:
    """By model on the screen; a line for each day and name in the file; a plain user is refused, without a line."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await client.post("/api/chat", json=CHAT)
        await router.rows(1)
        table = (await orouter(router, "usage", "--by", "model", "--since", "1d"))[1]
        assert re.search(r"^llama3.2:3b +1 +0 ", table, re.MULTILINE)
        lines = (await orouter(router, "usage", "--csv"))[1].splitlines()
        assert lines[0].startswith("from,user,requests,errors,prompt_tokens")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d,alice,1,0(,\d+){8}", lines[1])
        assert "cost" not in table + lines[0]  # without a price there is no column
        by_day = await as_json(router, "usage", "--by", "day", "--order", "gpu")
        assert [(line["requests"], line["gpu_ms"] >= 0) for line in by_day["by_day"]] == [(1, True)]
        assert by_day["by_model"] == []
        assert await orouter(router, "usage", "--csv", token=router.token) == (
            1, "", "orouter: the router refused: this route needs the token of an admin or a viewer\n",
        )  # fmt: skip


async def test_a_day_is_told_by_server_and_model(tmp_path: Path) -> None:
    """The sentence of the page, and a line for each time that a server answered with a model."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        await client.post("/api/chat", json=CHAT)
        (row,) = await router.rows(1)
        day = datetime.fromtimestamp(row.started_at, UTC).strftime("%Y-%m-%d")
        told = (await orouter(router, "history", "--day", day))[1]
        assert told.startswith("1 request, 0 failed, ")
        assert re.search(r"^one +llama3.2:3b +\d\d:\d\d +\d\d:\d\d +1 +0 ", told, re.MULTILINE)


async def test_incidents_are_listed(tmp_path: Path) -> None:
    """A line for each; `--json` is the route's view."""
    async with running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router:
        told = (await orouter(router, "incidents", "list", "--kind", "router.restart"))[1]
        assert re.match(r"1 incident, none active\.\n\n", told)
        assert re.search(r" router\.restart +\S+:1: started for the first time", told)
        shown = await as_json(router, "incidents", "list", "--server", "gone", "--active")
        assert [one["kind"] for one in shown["incidents"]] == ["server.down"]


async def test_rights_of_a_user_with_their_origins(tmp_path: Path) -> None:
    """The sentence, each right, each model; `--json` is the route's view."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.patch("/router/users/alice", json={"grants": {"models": ["qwen*"]}})
        told = (await orouter(router, "users", "rights", "alice"))[1]
        assert told.startswith("alice may use 0 of 1 model; not: llama3.2:3b.\n")
        assert re.search(r"^models +qwen\* +own$", told, re.MULTILINE)
        assert re.search(r"^llama3.2:3b +no +none of the user's model patterns matches$", told, re.MULTILINE)
        shown = await as_json(router, "users", "rights", "alice")
        assert shown == (await admin.get("/router/users/alice/rights")).json()


async def test_rights_that_a_group_gives(tmp_path: Path) -> None:
    """The same for a group."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.post("/router/groups", json={"name": "a/team", "grants": {"models": ["qwen*"]}})
        told = (await orouter(router, "groups", "rights", "a/team"))[1]
        assert told.startswith("A user in a/team may use 0 of 1 model; not: llama3.2:3b.\n")
        assert re.search(r"^models +qwen\* +group$", told, re.MULTILINE)


async def test_who_is_signed_in_is_told_and_ended(tmp_path: Path) -> None:
    """By the session's name, which the list tells."""
    async with (
        OllamaSimulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as browser,
    ):
        for _ in range(2):
            await browser.post("/console/session", json={"token": router.token}, headers={"x-console": "1"})
        told = (await orouter(router, "users", "sessions", "alice"))[1]
        first, _ = re.findall(r"^([0-9a-f]{12}) +token ", told, re.MULTILINE)
        ended = await as_json(router, "users", "sign-out", "alice", "--session", first)
        assert ended == {"user": "alice", "ended": 1}


async def test_me_says_what_is_left(tmp_path: Path) -> None:
    """Role, models, limits."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.patch("/router/users/alice", json={"grants": {"requests_per_minute": 5}})
        await router.services.authenticator.refresh()
        shown = await as_json(router, "me", token=router.token)
        assert (shown["name"], shown["role"], len(shown["models"])) == ("alice", "user", 1)
        limits = {one.pop("name"): one for one in shown["limits"]}
        assert limits["requests_per_minute"] == {"origin": "own", "limit": 5, "remaining": 5, "reset_seconds": 0.0}
        assert limits["tokens_per_day"]["origin"] == "none"
        table = (await orouter(router, "me", token=router.token))[1]
        assert "alice (user), 1 model" in table
        assert re.search(r"^requests per minute +5 +5 +0 s +own$", table, re.MULTILINE)
        assert re.search(r"^llama3.2:3b +on disk ", table, re.MULTILINE)


async def test_a_link_opens_the_console(tmp_path: Path) -> None:
    """Made in the database, for the first admin; it signs in once."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as browser,
    ):
        environment = {**os.environ, "OROUTER_DATABASE_URL": f"sqlite:///{tmp_path}/router.sqlite3"}
        config = json.dumps({"servers": {"one": server_entry(sim)}})
        (tmp_path / "c.json").write_text(config, encoding="utf-8")
        command = [sys.executable, "-m", "ollama_router_cli", "--config", str(tmp_path / "c.json")]
        done = await anyio.run_process([*command, "console", "open", "--json"], env=environment)
        link = json.loads(done.stdout)
        assert link["user"] == "root"
        claim = link["url"].partition("#claim=")[2]
        opened = await browser.post("/console/claim", json={"claim": claim}, headers={"x-console": "1"})
        assert opened.json() == {"user": "root", "role": "admin"}


async def test_operations_are_followed_to_their_end(tmp_path: Path) -> None:
    """Progress is told beside the result; the exit code says whether it is done everywhere."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], registry=[model("qwen3:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        pulled = await as_json(router, "models", "pull", "qwen3:8b", "--to", "one")
        assert (pulled["state"], pulled["targets"][0]["state"]) == ("done", "done")
        assert (await as_json(router, "models", "load", "llama3.2:3b"))["state"] == "done"
        assert (await as_json(router, "models", "unload", "llama3.2:3b"))["state"] == "done"
        assert (await as_json(router, "models", "copy", "llama3.2:3b", "small"))["state"] == "done"
        assert (await as_json(router, "models", "rm", "small", "--on", "one", "--yes"))["state"] == "done"
        code, out, _ = await orouter(router, "models", "pull", "nobody:1b", "--to", "one")
        assert code == 1
        assert "file does not exist" in out
        listed = (await orouter(router, "operations", "list"))[1]
        assert listed.count("pull") == 2
        (failed, *_) = (await as_json(router, "operations", "list"))["operations"]
        assert (await orouter(router, "operations", "retry", failed["id"]))[0] == 1
        assert "over" in (await orouter(router, "operations", "cancel", failed["id"]))[2]


async def test_nothing_waits(tmp_path: Path) -> None:
    """An empty queue is said in words, and is an empty list in JSON."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        assert (await orouter(router, "queue"))[1] == "no requests are waiting\n"
        assert (await as_json(router, "queue")) == {"waiting": 0, "queue": []}
