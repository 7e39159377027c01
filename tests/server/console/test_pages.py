"""The pages: who sees which, what they show, and that nothing from outside becomes part of them."""

from __future__ import annotations

import asyncio
import html
import re
import shlex
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server import console
from support.eventually import eventually, eventually_async
from support.records import make_record
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

OURS = {"x-console": "1"}
PERSON = {"accept": "text/html"}
CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
EVERYBODYS = ("", "requests", "models", "about", "errors")
READERS = ("now", "servers", "servers/one", "models/llama3.2:3b", "usage", "history")
ADMINS = ("people", "people/alice", "groups", "doctor", "operations", "whatif")
OF_OUR_OWN = {"view.day", "days", "step", "name", "span"}
"""What commands on pages show unquoted: days, numbers, and words of the program's own."""
HOSTILE = "<img src=x onerror=alert(1)>\u202e{{7*7}}"


async def signed_in(router: RunningRouter, token: str) -> httpx.AsyncClient:
    """A browser with a session."""
    browser = router.client("")
    browser.headers.update(PERSON)
    answer = await browser.post("/console/session", json={"token": token}, headers=OURS)
    assert answer.status_code == 200
    return browser


async def test_each_role_sees_its_pages_and_no_other(tmp_path: Path) -> None:
    """Users see their own, viewers read all, admins may act; every refusal is a page that names what is missing."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        made = (await admin.post("/router/users", json={"name": "vic", "role": "viewer"})).json()
        await router.services.authenticator.refresh()
        allowed = {
            router.token: EVERYBODYS,
            made["token"]: (*EVERYBODYS, *READERS),
            router.admin_token: (*EVERYBODYS, *READERS, *ADMINS),
        }
        for token, pages in allowed.items():
            browser = await signed_in(router, token)
            for page in (*EVERYBODYS, *READERS, *ADMINS):
                answer = await browser.get(f"/console/{page}")
                assert answer.status_code == (200 if page in pages else 403), page
                assert answer.headers["content-type"].startswith("text/html")
            await browser.aclose()


async def test_a_page_says_what_it_may_do_and_is_not_kept(tmp_path: Path) -> None:
    """The policy allows our own files alone, no page is stored or framed, and links are relative."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        browser = await signed_in(router, router.admin_token)
        page = await browser.get("/console/servers/one")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["cache-control"] == "no-store"
        assert re.findall(r'(?:href|src)="(?:/|https?:)', page.text) == []
        assert re.findall(r"<script(?! type=\"module\" src=)|style=|\son\w+=", page.text) == []
        files = re.findall(r'(?:href|src)="(\.\./v/[^"]+)"', page.text)
        for path in files:
            asset = await browser.get(f"/console/servers/{path}")
            assert asset.status_code == 200
            assert "immutable" in asset.headers["cache-control"]
        await browser.aclose()


async def test_what_fails_is_tried_again_with_its_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link of the page that says so leads to what was asked for; it is escaped."""
    async with running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router:

        async def fails(_asked: object) -> None:
            raise StorageUnavailable("the database is away")

        monkeypatch.setattr(router.services.request_log, "stats", fails)
        browser = await signed_in(router, router.admin_token)
        page = await browser.get('/console/usage?days=3&x="><b>')
        assert page.status_code == 503
        assert 'href="./usage?days=3&amp;x=%22%3E%3Cb%3E">Try again' in page.text
        await browser.aclose()


async def test_usage_of_some_days_in_some_order(tmp_path: Path) -> None:
    """Whole days, with GPU time; cost where there is a price; a line leads to its requests; other words are refused."""
    day = 20_000 * 86_400.0
    far = {"host": "127.0.0.1", "port": 9, "models": {"m": {"input_price": 2.0}}}
    async with running_router(
        tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}, external_hosts={"far": far}, currency="EUR"
    ) as router:
        rows = [
            make_record(1, started_at=day, user="alice", server="far", cost_micros=2_345_678),
            make_record(2, started_at=day + 86_399, user=HOSTILE, server="one", gpu_ms=61_000, status=499, ttft_ms=9.0),
            make_record(3, started_at=day + 86_400, user="eve"),
        ]
        await router.services.request_log.insert(rows)
        browser = await signed_in(router, router.admin_token)
        page = await browser.get("/console/usage?from=2024-10-04&to=2024-10-04&order=gpu_ms")
        for wrong in ("from=2024-10-05&to=2024-10-04", "from=2022-10-04&to=2024-10-04", "to=9999-12-31"):
            assert (await browser.get(f"/console/usage?{wrong}")).status_code == 400
        assert (await browser.get("/console/usage?order=name")).status_code == 400
        await browser.aclose()
    assert "2 requests from 2024-10-04 to 2024-10-04, 1 failed" in page.text
    assert "61, 61 of them for clients that left" in page.text
    assert "2.35 EUR" in page.text
    assert page.text.index("&lt;img") < page.text.index(">alice<")
    assert f"requests?user=alice&amp;since={day:.0f}&amp;before={day + 86_400:.0f}" in page.text
    assert "<img src=x" not in page.text
    assert "eve" not in page.text


async def test_whose_token_asked_stands_beside_the_user(tmp_path: Path) -> None:
    """In the list and on the request's own page, as of what is in progress."""
    async with running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router:
        now = router.services.clock.wall()
        row = make_record(1, id=f"{int(now * 1000):012x}{1:016x}", started_at=now, user="ann", speaker="<webui>")
        await router.services.request_log.insert([row])
        browser = await signed_in(router, router.admin_token)
        pages = [(await browser.get(f"/console/requests{one}")).text for one in ("", "?text=webui", f"/{row.id}")]
        await browser.aclose()
    assert ["<bdi>ann</bdi> <small>by <bdi>&lt;webui&gt;</bdi></small>" in page for page in pages] == [True] * 3


async def test_a_request_is_told_in_a_sentence_with_parts_that_add_up(tmp_path: Path) -> None:
    """From the list to the one request, by its id; another user's is not found."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        await client.post("/api/chat", json=CHAT)
        await admin.post("/api/chat", json=CHAT)
        ours = {row.user: row.id for row in await router.rows(2)}
        browser = await signed_in(router, router.token)
        listed = await browser.get("/console/requests")
        assert ours["alice"] in listed.text
        assert ours["root"] not in listed.text
        one = await browser.get(f"/console/requests/{ours['alice']}")
        assert "<h1>Took " in one.text
        assert (await browser.get(f"/console/requests/{ours['root']}")).status_code == 404
        shown = (await client.get(f"/router/requests/{ours['alice']}")).json()
        assert sum(phase["ms"] for phase in shown["phases"]) == pytest.approx(shown["total_ms"], abs=1)
        await browser.aclose()


async def test_the_search_leads_to_what_is_named(tmp_path: Path) -> None:
    """A page, server, model or user that the asking user may see; any other text to the requests with it."""
    id_ = "0" * 28
    everybodys = {id_: f"requests/{id_}", "Requests": "requests", "Start": "./", "": "./", "a b": "requests?text=a+b"}
    admins = {
        **everybodys, "one": "servers/one", "llama3.2:3b": "models/llama3.2%3A3b", "alice": "people/alice",
        "a/team": "groups/a%2Fteam", "What if": "whatif", "servers/{name}": "requests?text=servers%2F%7Bname%7D",
    }  # fmt: skip
    users = {**everybodys, **{name: f"requests?text={name}" for name in ("one", "bob", "people", "team")}}
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        await router.services.groups.create("a/team")
        for token, places in ((router.admin_token, admins), (router.token, users)):
            browser = await signed_in(router, token)
            found = {text: await browser.get("/console/find", params={"q": text}) for text in places}
            assert {text: answer.headers["location"] for text, answer in found.items()} == places
            assert {answer.status_code for answer in found.values()} == {303}
            await browser.aclose()


async def test_hostile_names_are_shown_literally(tmp_path: Path) -> None:
    """A user's name, a model's name in a row: text, cut, never a part of the page."""
    name = HOSTILE.replace("\u202e", "")
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        assert (await admin.post("/router/users", json={"name": name})).status_code == 201
        await admin.post("/api/chat", json={**CHAT, "model": name + "x" * 3000})
        await router.rows(1)
        browser = await signed_in(router, router.admin_token)
        for page in ("people", "requests", "now", "usage"):
            text = (await browser.get(f"/console/{page}")).text
            assert "<img src=x" not in text
            assert "49" not in re.findall(r"onerror=alert\(1\)&gt;(\d\d)", text)
            assert "x" * 200 not in text
        assert "&lt;img src=x" in (await browser.get("/console/people")).text
        await browser.aclose()


def test_commands_quote_what_others_have_named() -> None:
    """In every template, whatever is put into a command of `orouter` is quoted for a shell."""
    found = set[str]()
    for path in (Path(console.__file__).parent / "templates").rglob("*.html"):
        for command in re.findall(r"\borouter [^<]*?(?=<|\" data-)", path.read_text("utf-8")):
            found |= {put.strip() for put in re.findall(r"{{(.*?)}}", command)}
    words = {put for put in found if put.startswith('"')}
    unquoted = {put for put in found - words - OF_OUR_OWN if not put.endswith("|quoted")}
    assert {put for put in unquoted if "|moment(" not in put} == set()
    assert "token.name|quoted" in found


async def test_a_command_to_be_copied_does_what_it_says(tmp_path: Path) -> None:
    """Of a token, a person, a group and a filter with a shell's own signs in them."""
    name = "x'; touch /tmp/pwned; '"
    async with (
        running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
    ):
        router.services.users._cost = 4
        assert (await admin.post("/router/groups", json={"name": name})).is_success
        assert (await admin.post("/router/users", json={"name": name})).is_success
        assert (await admin.post(f"/router/users/{quote(name, safe='')}/tokens", json={"name": name})).is_success
        browser = await signed_in(router, router.admin_token)
        for page in (
            f"people/{quote(name, safe='')}",
            f"groups/{quote(name, safe='')}",
            f"people?group={quote(name)}&search=none",
        ):
            text = html.unescape((await browser.get(f"/console/{page}")).text)
            commands = re.findall(r"From a shell: (?:<code>)?(orouter .*?)(?:</code>|\" data-)", text)
            commands += re.findall(r"<code>(orouter .*?)</code>", text)
            named = [one for one in commands if "touch" in one]
            assert named
            for one in named:
                assert {word for word in shlex.split(one) if "touch" in word} == {name}, one
        await browser.aclose()


async def test_a_person_is_put_into_any_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is typed: of many groups the first are only proposed."""
    monkeypatch.setattr(console.pages, "_MOST_ROWS", 1)
    async with (
        running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
    ):
        for name in ("a team", "b team"):
            await admin.post("/router/groups", json={"name": name})
        await admin.patch("/router/users/alice", json={"group": "b team"})
        browser = await signed_in(router, router.admin_token)
        text = (await browser.get("/console/people/alice")).text
        assert re.findall(r'<input name="group" list="groups" value="([^"]*)"', text) == ["b team"]
        assert re.findall(r'<datalist id="groups">.*?value="(.*?)"', text) == ["a team"]
        await browser.aclose()


async def test_live_parts_come_alone_and_only_when_they_changed(tmp_path: Path) -> None:
    """The script gets the part without the shell; with the tag of what it has it gets 304."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        browser = await signed_in(router, router.admin_token)
        part = await browser.get("/console/requests", headers=OURS)
        assert "<html" not in part.text
        again = await browser.get("/console/requests", headers={**OURS, "if-none-match": part.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        await browser.aclose()


async def test_an_admin_drains_and_undoes_it(tmp_path: Path) -> None:
    """The buttons' routes do what those below `/router/` do."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        browser = await signed_in(router, router.admin_token)
        await browser.post("/console/act/servers/one/drain", headers=OURS)
        alone = (await browser.get("/console/servers")).text
        assert "draining" in alone
        assert 'id="part-memory"' in alone
        assert alone.count("<h1>") == 1
        await browser.post("/console/act/servers/one/undrain", headers=OURS)
        assert "Undrain" not in (await browser.get("/console/servers")).text
        plain = await signed_in(router, router.token)
        assert (await plain.post("/console/act/servers/one/drain", headers=OURS)).status_code == 403
        await browser.aclose()
        await plain.aclose()


async def test_a_request_in_progress_is_cancelled_by_who_may(tmp_path: Path) -> None:
    """Its client gets an error, its row names who ended it; another user cannot."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=5_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
        client.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as stream,
    ):
        lines = stream.aiter_lines()
        await anext(lines)

        async def is_shown() -> bool:
            return bool((await admin.get("/router/overview")).json()["running"])

        await eventually_async(is_shown)
        (running,) = (await admin.get("/router/overview")).json()["running"]
        made = (await admin.post("/router/users", json={"name": "bob"})).json()
        await router.services.authenticator.refresh()
        async with router.client(made["token"]) as bob:
            assert (await bob.post(f"/router/requests/{running['id']}/cancel")).status_code == 404
        assert (await admin.post(f"/router/requests/{running['id']}/cancel")).json()["cancelled"] is True
        assert router.services.fleet.running("one") == 0  # its slot and its connection are given back at once
        told = []
        with suppress(httpx.RemoteProtocolError):
            async for line in lines:
                told.append(line)  # noqa: PERF401 - what came before the cut counts
        assert "cancelled by root" in told[-1]
        (row,) = await router.rows(1)
        assert row.error_code == "request_cancelled"
        assert "root" in (row.error or "")
        browser = await signed_in(router, router.admin_token)
        assert "request.cancel" in (await browser.get("/console/history")).text
        await browser.aclose()


@pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
async def test_a_load_is_explained_by_the_decision_of_then(tmp_path: Path, strategy: str) -> None:
    """The request that loaded the model shows why it went there, whatever has happened since; the next shows none."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(
            tmp_path,
            {"one": server_entry(sim), "off": {"host": "127.0.0.1", "port": 2}},
            routing_strategy=strategy,
        ) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        await client.post("/api/chat", json=CHAT)
        await admin.post("/router/servers/one/drain")
        await admin.post("/router/servers/one/undrain")
        await client.post("/api/chat", json=CHAT)
        warm, cold = await router.rows(2)
        kept = (await admin.get(f"/router/requests/{cold.id}")).json()["decision"]
        assert {one["server"]: one["verdict"] for one in kept["candidates"]} == {"one": "chosen", "off": "refused"}
        browser = await signed_in(router, router.admin_token)
        page = (await browser.get(f"/console/requests/{cold.id}")).text
        assert "not loaded" in page
        assert 'aria-label="expected: load ' in page
        assert (await admin.get(f"/router/requests/{warm.id}")).json()["decision"] is None
        assert "Not kept" in (await browser.get(f"/console/requests/{warm.id}")).text
        await browser.aclose()


async def test_the_decision_of_then_outlasts_a_restart_with_other_servers(tmp_path: Path) -> None:
    """Where a request could have gone and why it went where it did, though all that is gone; why one waited."""
    async with OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=2_000) as sim:
        before = {"one": server_entry(sim, max_concurrent=1), "off": {"host": "127.0.0.1", "port": 2}}
        async with (
            running_router(tmp_path, before) as router,
            router.client() as client,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(client.post("/api/chat", json=CHAT))
            await eventually(lambda: bool(sim.requests_to("/api/chat")))
            tasks.create_task(client.post("/api/chat", json=CHAT))
            await eventually(lambda: router.services.admission.waiting == 1)
            sim.time_scale = 0.0
        async with (
            running_router(tmp_path, {"other": server_entry(sim)}, fresh=False, routing_strategy="fastest") as router,
            router.client(router.admin_token) as admin,
        ):
            waited, loaded = sorted(await router.rows(2), key=lambda row: row.queue_position is None)
            kept = (await admin.get(f"/router/requests/{loaded.id}")).json()["decision"]
            assert (kept["strategy"], kept["server"]) == ("priority_with_memory", "one")
            assert {one["server"] for one in kept["candidates"]} == {"one", "off"}
            later = (await admin.get(f"/router/requests/{waited.id}")).json()["decision"]
            assert (later["server"], ", waited " in later["reason"]) == ("one", True)
            assert {one["server"]: one["verdict"] for one in later["candidates"]} == {"one": "chosen", "off": "refused"}
            browser = await signed_in(router, router.admin_token)
            assert "<bdi>off</bdi>" in (await browser.get(f"/console/requests/{loaded.id}")).text
            await browser.aclose()


async def test_a_request_is_decided_again_by_the_rules_of_now(tmp_path: Path) -> None:
    """The server of now and of each strategy is named, and that it was another; nothing is sent; users cannot ask."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as first,
        OllamaSimulator(models=[model("llama3.2:3b")]) as second,
        running_router(tmp_path, {"a": server_entry(first), "b": server_entry(second, priority=2)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        await client.post("/api/chat", json=CHAT)
        (row,) = await router.rows(1)
        await admin.post("/router/servers/a/drain")
        again = (await admin.get(f"/router/requests/{row.id}/replay")).json()
        assert (again["then"], again["server"], again["allowed"]) == ("a", "b", True)
        assert {one["server"] for one in again["strategies"].values()} == {"b"}
        assert {one["server"]: one["verdict"] for one in again["candidates"]} == {"a": "refused", "b": "chosen"}
        browser, plain = await signed_in(router, router.admin_token), await signed_in(router, router.token)
        assert "then it was another" in (await browser.get(f"/console/requests/{row.id}?replay=1")).text
        assert (await plain.get(f"/console/requests/{row.id}?replay=1")).status_code == 403
        assert "replay" not in (await plain.get(f"/console/requests/{row.id}")).text
        assert not second.requests_to("/api/chat")
        await browser.aclose()
        await plain.aclose()


async def test_the_line_of_two_users(tmp_path: Path) -> None:
    """An admin sees every place, alice her own alone, which tell how many are ahead; then what was said and came."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=2_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        router.client(router.admin_token) as admin,
    ):
        made = (await admin.post("/router/users", json={"name": "bob"})).json()
        await router.services.authenticator.refresh()
        async with router.client() as alice, router.client(made["token"]) as bob, asyncio.TaskGroup() as tasks:
            tasks.create_task(alice.post("/api/chat", json=CHAT))
            await eventually(lambda: bool(sim.requests_to("/api/chat")))
            for number, client in enumerate((bob, alice, bob, bob, alice), start=1):
                tasks.create_task(client.post("/api/chat", json=CHAT))
                await eventually(lambda number=number: router.services.admission.waiting == number)  # type: ignore[misc]
            root, hers = await signed_in(router, router.admin_token), await signed_in(router, router.token)
            whole, own = (await root.get("/console/now")).text, (await hers.get("/console/")).text
            part = (await hers.get("/console/", headers=OURS)).text
            ahead = router.services.worker_news.sync
            assert ahead is not None
            (first,) = [one["id"] for one in ahead.active_requests() if one["queue_position"] == 1]
            await admin.post(f"/router/requests/{first}/cancel")
            await eventually(lambda: router.services.admission.waiting == 4)
            moved = (await root.get("/console/now")).text
            sim.time_scale = 0.0
        assert places(whole) == ["1", "2", "3", "4", "5"]
        assert len(re.findall(r"\d · (?:about \d+ s|any moment)</td>", whole)) == 5
        assert "bob" in whole
        assert places(own) == ["2", "5"]
        assert "bob" not in own
        assert places(part) == ["2", "5"]
        assert places(moved) == ["1", "2", "3", "4"]
        assert part.count('data-act="cancel"') == 3
        assert "<h1" not in part
        waited = next(row for row in await router.rows(6) if row.user == "alice" and row.queue_position == 5)
        page = (await hers.get(f"/console/requests/{waited.id}")).text
        assert re.search(r"said to wait</th>.*about [\d.]+ m?s, was [\d.]+ m?s</td>", page)
        assert 'class="swatch queue"' in page
        await root.aclose()
        await hers.aclose()


def places(page: str) -> list[str]:
    """The places in the line that a page shows."""
    rows = re.findall(r'<tr id="active-.*?</tr>', page, re.DOTALL)
    return [found[1] for row in rows if (found := re.search(r'class="number">(\d+) · ', row))]


async def test_room_on_a_models_page_is_what_explain_says(tmp_path: Path) -> None:
    """Who would have to go, and by how much it is too large elsewhere; with the numbers of the route."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b"), model("qwen3:8b")]) as big,
        OllamaSimulator(models=[model("llama3.2:3b"), model("qwen3:8b")]) as tiny,
        running_router(
            tmp_path, {"big": server_entry(big, max_memory_gb=7), "tiny": server_entry(tiny, max_memory_gb=1)}
        ) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.post("/api/chat", json={**CHAT, "model": "qwen3:8b"})
        await eventually(lambda: bool(router.services.fleet.servers["big"].loaded))
        found = (await admin.get("/router/explain?model=llama3.2:3b")).json()["candidates"]
        rows = {row["server"]: row for row in found}
        browser = await signed_in(router, router.admin_token)
        page = (await browser.get("/console/models/llama3.2:3b")).text
        loaded = (await browser.get("/console/models/qwen3:8b")).text
        await browser.aclose()
    assert '<td class="number">100 %</td>' in loaded
    assert (rows["big"]["fit"], [one["model"] for one in rows["big"]["victims"]]) == ("evicts", ["qwen3:8b"])
    assert 'evicts <bdi class="mono">qwen3:8b</bdi>' in page
    short = (rows["tiny"]["memory"]["bytes"] - rows["tiny"]["limit_bytes"]) / 1024**3
    assert f"too large by {short:.2f} GiB" in page


async def test_usage_is_stacked_by_whose_requests_they_are(tmp_path: Path) -> None:
    """As JSON and on the page, the four with most apart; with neither of a user alone, nor without a beginning."""
    day = 20_000 * 86_400.0
    async with running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router:
        counts = {"ann": 6, "bob": 5, "cleo": 4, "dan": 3, "eve": 2}
        users = [user for user, count in counts.items() for _ in range(count)]
        rows = [make_record(number, started_at=day + number, user=user) for number, user in enumerate(users)]
        await router.services.request_log.insert([*rows, make_record(99, started_at=day + 90_000, user="eve")])
        browser = await signed_in(router, router.admin_token)
        page = await browser.get("/console/usage?from=2024-10-04&to=2024-10-05&stack=user")
        assert (await browser.get("/console/usage?stack=day")).status_code == 400
        await browser.aclose()
        async with router.client(router.admin_token) as admin:
            span = f"since={day:.0f}&before={day + 2 * 86_400:.0f}"
            steps = (await admin.get(f"/router/usage?{span}&by=user&bucket=day")).json()["steps"]
            assert (await admin.get(f"/router/usage?{span}")).json()["steps"] == []
            refused = [f"{span}&bucket=week", f"{span}&bucket=day&user=ann", "bucket=day", f"{span}&bucket=day&by=day"]
            assert [(await admin.get(f"/router/usage?{one}")).status_code for one in refused] == [400] * 4
    told = [(one["requests"], [part["requests"] for part in one["parts"]], one["others"]) for one in steps]
    assert told == [(20, [6, 5, 4, 3], 2), (1, [0, 0, 0, 0], 1)]
    assert [page.text.count(f'class="part{tone}"') for tone in range(5)] == [1, 1, 1, 1, 2]
    assert "Requests by hour and user" in page.text
    assert page.text.count(", ann: 6</title>") == 1


async def test_usage_is_stacked_by_the_groups_of_now(tmp_path: Path) -> None:
    """Whoever has none is among the others; in hours for a week at most; a row leads to its requests."""
    day = 20_000 * 86_400.0
    async with (
        running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
    ):
        made = (await admin.post("/router/users", json={"name": "vic", "role": "viewer"})).json()
        await router.services.authenticator.refresh()
        asked = "/console/usage?from=2024-10-04&to=2024-10-05&stack=group"
        browser = await signed_in(router, made["token"])
        before = (await browser.get("/console/usage?from=2024-10-04&to=2024-10-05")).text
        await admin.post("/router/groups", json={"name": "team/a"})
        await admin.patch("/router/users/alice", json={"group": "team/a"})
        users = ["alice", "alice", "bob", None]
        rows = [make_record(number, started_at=day + number, user=user) for number, user in enumerate(users)]
        await router.services.request_log.insert([*rows, make_record(99, started_at=day + 90_000)])
        page = (await browser.get(asked)).text
        await browser.aclose()
        span = f"before={day + 2 * 86_400:.0f}&by=group"
        steps = (await admin.get(f"/router/usage?since={day:.0f}&{span}&bucket=day")).json()["steps"]
        long = await admin.get(f"/router/usage?since={day - 6 * 86_400:.0f}&{span}&bucket=hour")
    assert [(one["requests"], one["parts"], one["others"]) for one in steps] == [
        (4, [{"name": "team/a", "requests": 2}], 2), (1, [{"name": "team/a", "requests": 1}], 0),
    ]  # fmt: skip
    assert (long.status_code, "at most 7 days" in long.json()["error"]) == (400, True)
    assert ("By group" in re.findall(r">(By \w+)</a>", before), "Requests by hour and group" in page) == (False, True)
    assert page.count(", team/a: ") == 2
    assert f'href="./requests?group=team/a&amp;since={day:.0f}&amp;before={day + 2 * 86_400:.0f}"' in page


async def test_usage_is_stacked_by_external_host(tmp_path: Path) -> None:
    """Requests of servers are together; without an external host there is no such choice."""
    day, far = 20_000 * 86_400.0, {"host": "127.0.0.1", "port": 9, "models": {"m": {}}}
    asked = "/console/usage?from=2024-10-04&to=2024-10-04"
    async with running_router(
        tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}, external_hosts={"far": far}
    ) as router:
        browser = await signed_in(router, router.admin_token)
        before = (await browser.get(asked)).text
        servers = ["far", "far", "one"]
        await router.services.request_log.insert(
            [make_record(number, started_at=day + number, server=name) for number, name in enumerate(servers)]
        )
        page = (await browser.get(f"{asked}&stack=host")).text
        await browser.aclose()
        async with router.client(router.admin_token) as admin:
            query = f"since={day:.0f}&before={day + 86_400:.0f}&by=host&bucket=day"
            (step,) = (await admin.get(f"/router/usage?{query}")).json()["steps"]
    assert (step["requests"], step["parts"], step["others"]) == (3, [{"name": "far", "requests": 2}], 1)
    assert ("By host" in before, "By host" in page) == (False, True)
    assert ", far: 2</title>" in page


async def test_times_of_a_link_survive_the_filter(tmp_path: Path) -> None:
    """To the second, as the links of Usage have them."""
    async with running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router:
        browser = await signed_in(router, router.admin_token)
        page = (await browser.get("/console/requests?since=1700000039&before=1700003651")).text
        await browser.aclose()
    assert 'step="1" name="since" value="2023-11-14T22:13:59"' in page
    assert 'step="1" name="before" value="2023-11-14T23:14:11"' in page
