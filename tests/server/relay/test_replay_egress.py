"""What leaves the router, in both directions: only what is meant to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import Answer, Drip, ExtraHeaders, OllamaSimulator, model
from support.router import running_router, server_entry
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [], "stream": False}
KEY = "sk-canary-0123456789abcdefghij"

STAYS_HERE = {
    "cookie": "session=canary",
    "origin": "https://canary.example",
    "referer": "https://canary.example",
    "forwarded": "for=canary",
    "x-forwarded-for": "canary",
    "x-forwarded-host": "canary",
    "x-real-ip": "canary",
    "x-custom-secret": "canary",
    "x-router-target": "canary",
    "te": "trailers",
    "proxy-authorization": "Basic canary",
    "keep-alive": "timeout=canary",
    "upgrade": "canary",
    "accept-encoding": "canary",
    "openai-organization": "canary",
    "via": "1.0 canary",
}


async def test_client_credentials_and_inventions_stay_here(tmp_path: Path) -> None:
    """Ollama hands client fields on to its cloud: an allow-list decides what it sees. Host is the server's."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, cors={"origins": [STAYS_HERE["origin"]]}) as router,
        router.client() as client,
    ):
        await client.post("/api/chat", json=CHAT, headers={**STAYS_HERE, "user-agent": "mine/1"})
        (seen,) = sim.requests_to("/api/chat")
    text = repr(seen.headers)
    assert "canary" not in text
    assert router.token not in text
    assert seen.header("authorization") is None
    assert seen.header("x-api-key") is None
    assert seen.header("host") == f"127.0.0.1:{sim.port}"
    assert seen.header("user-agent") == "mine/1"


async def test_what_connection_nominates_stays_here(tmp_path: Path) -> None:
    """RFC 9110 7.6.1: fields named in Connection are for this hop, even those that would pass."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        headers = {"connection": "keep-alive, X-Thing, Accept-Language", "accept-language": "canary"}
        await client.post("/api/chat", json=CHAT, headers=headers)
        (seen,) = sim.requests_to("/api/chat")
    assert "canary" not in repr(seen.headers)


NEVER_BACK = {
    "Set-Cookie": "a=canary",
    "Set-Cookie2": "a=canary",
    "Location": "http://canary.example",
    "Server": "canary",
    "WWW-Authenticate": "Basic realm=canary",
    "Alt-Svc": 'h3=":443"; ma=canary',
    "Strict-Transport-Security": "max-age=canary",
    "Access-Control-Allow-Origin": "https://canary.example",
    "openai-organization": "canary",
    "X-Router-Server": "canary",
    "X-Router-Request-Id": "canary",
    "X-Router-Error": "canary",
    "Keep-Alive": "timeout=canary",
    "Proxy-Authenticate": "canary",
    "Trailer": "canary",
}


async def test_what_a_server_may_not_say_to_clients_is_dropped(tmp_path: Path) -> None:
    """Cookies, redirect targets, hop-by-hop fields, and fields that are the router's to say."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.misbehave(ExtraHeaders(headers=tuple(NEVER_BACK.items())), path="/api/chat")
        response = await client.post("/api/chat", json=CHAT)
    assert response.status_code == 200
    assert "canary" not in repr(response.headers)
    assert response.headers["x-router-server"] == "one"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(tmp_path: Path, status: int) -> None:
    """A server that points elsewhere is a failure, not a guide; whatever it points at hears nothing."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        OllamaSimulator(models=[model("llama3.1:8b")]) as elsewhere,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        answer = Answer(status=status, headers=(("Location", f"{elsewhere.url}/api/chat"),))
        for path in ("/api/chat", "/api/delete"):
            sim.misbehave(answer, path=path)
        response = await client.post("/api/chat", json=CHAT)
        deleted = await admin.request("DELETE", "/api/delete", json={"model": "llama3.1:8b"})
    assert (response.status_code, deleted.status_code) == (502, 502)
    assert "redirect" in response.json()["error"]
    assert "location" not in response.headers
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "field", [b"X-A: b\r\n c: d\r\n", b"X-A\x00: b\r\n", b"X A: b\r\n", b"X-A: b\rSet-Cookie: c\r\n", b"X-A: \x01\r\n"]
)
async def test_a_head_that_could_be_read_in_two_ways_is_502(tmp_path: Path, field: bytes) -> None:
    """Or at least nothing of it comes through."""

    async def script(peer: Peer) -> None:
        head = await peer.head()
        path = head.split(b" ")[1]
        ok = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        reply = {b"/api/tags": _TAGS, b"/api/version": b'{"version":"0.32.15"}'}.get(path, b'{"models":[]}')
        strange = field if path == b"/api/chat" else b""
        await peer.send(ok + strange + b"Content-Length: %d\r\n\r\n" % len(reply) + reply)

    async with (
        ScriptedServer(script) as server,
        running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": server.port}}) as router,
        router.client() as client,
    ):
        response = await client.post("/api/chat", json=CHAT)
    assert response.status_code == 502
    assert "set-cookie" not in response.headers


_TAGS = json.dumps({"models": [{"name": "llama3.1:8b", "model": "llama3.1:8b", "size": 1, "digest": "0"}]}).encode()


def echoing(sim: OllamaSimulator, **more: Any) -> dict[str, Any]:
    """Settings of a router with an external host that is this simulator."""
    host = {"host": "127.0.0.1", "port": sim.port, "protocol": "http", "api_key_env": "PROVIDER_KEY", **more}
    return {
        "external_hosts": {"provider": host},
        "model_config": {"explicit_assignments": {"gpt-x": "provider"}},
        "environment": {"PROVIDER_KEY": KEY},
    }


ECHOES: Mapping[str, Any] = {
    "an error": Answer(status=401, body=f'{{"error":{{"message":"bad key {KEY}"}}}}'.encode()),
    "a good answer": Answer(status=200, body=f'{{"choices":[],"note":"{KEY}"}}'.encode()),
    "a header": Answer(status=200, body=b'{"choices":[]}', headers=(("X-Debug", f"Bearer {KEY}"),)),
}


@pytest.mark.parametrize("where", ECHOES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_s_key_goes_there_alone_and_never_comes_back(tmp_path: Path, where: str, stream: bool) -> None:
    """Masked wherever the provider echoes it; no other server ever sees it."""
    body = {"model": "gpt-x", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as own,
        OllamaSimulator(models=[model("gpt-x")]) as provider,
        running_router(tmp_path, {"one": server_entry(own)}, **echoing(provider)) as router,
        router.client() as client,
    ):
        provider.misbehave(ECHOES[where], path="/v1/chat/completions")
        response = await client.post("/v1/chat/completions", json=body)
        await client.post("/api/chat", json=CHAT)
        (seen,) = provider.requests_to("/v1/chat/completions")
        rows = await router.rows(2)
    assert seen.header("authorization") == f"Bearer {KEY}"
    assert KEY not in response.text + repr(response.headers) + repr(rows)
    assert KEY not in repr([one.headers for one in own.requests])


async def test_a_key_that_comes_in_pieces_is_masked_too(tmp_path: Path) -> None:
    """A stream may cut it anywhere."""
    body = {"model": "gpt-x", "messages": [{"role": "user", "content": f"say {KEY} again"}], "stream": True}
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as own,
        OllamaSimulator(models=[model("gpt-x")]) as provider,
        running_router(tmp_path, {"one": server_entry(own)}, **echoing(provider)) as router,
        router.client() as client,
    ):
        echo = f'data: {{"choices":[],"note":"{KEY}"}}\n\ndata: [DONE]\n\n'.encode()
        provider.misbehave(
            Answer(status=200, body=echo, content_type="text/event-stream"), Drip(size=3), path="/v1/chat/completions"
        )
        response = await client.post("/v1/chat/completions", json=body)
    assert KEY not in response.text
    assert "*" * len(KEY) in response.text
    assert response.text.endswith("data: [DONE]\n\n")


ROUTES = ["GET /v1/files", "POST /v1/files", "PUT /v1/files/{id}", "PATCH /v1/files/{id}", "DELETE /v1/files/{id}"]


async def test_an_external_host_s_own_routes_pass_with_every_method(tmp_path: Path) -> None:
    """What the config lists passes with body and query, with the host's key and not the client's; nothing else does."""
    seen: list[tuple[str, bytes]] = []

    async def script(peer: Peer) -> None:
        head = (await peer.head()).decode()
        length = next((line for line in head.split("\r\n") if line.lower().startswith("content-length")), "x: 0")
        seen.append((head, await peer.body(int(length.split(":")[1]))))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as own,
        ScriptedServer(script) as provider,
        running_router(
            tmp_path,
            {"one": server_entry(own)},
            external_hosts={
                "files": {
                    "host": "127.0.0.1", "port": provider.port, "protocol": "http", "api_key_env": "PROVIDER_KEY",
                    "routes": ROUTES,
                }
            },
            environment={"PROVIDER_KEY": KEY},
        ) as router,
        router.client() as user,
        router.client(router.admin_token) as admin,
    ):  # fmt: skip
        answers = [await admin.get("/external/files/v1/files?limit=3")]
        answers += [
            await admin.request(method, "/external/files/v1/files/a-1", content=b"data")
            for method in ("PUT", "PATCH", "DELETE")
        ]
        refused = await user.get("/external/files/v1/files")
        unlisted = await admin.get("/external/files/v1/models")
        method = await admin.put("/external/files/v1/files", content=b"")
        rows = await router.rows(4)
    assert [(one.status_code, one.text) for one in answers] == [(200, "ok")] * 4
    assert [head.split("\r\n")[0] for head, _ in seen] == [
        "GET /v1/files?limit=3 HTTP/1.1",
        "PUT /v1/files/a-1 HTTP/1.1",
        "PATCH /v1/files/a-1 HTTP/1.1",
        "DELETE /v1/files/a-1 HTTP/1.1",
    ]
    assert [data for _, data in seen] == [b"", b"data", b"data", b"data"]
    assert all(KEY in head and router.admin_token not in head for head, _ in seen)
    assert (refused.status_code, unlisted.status_code, method.status_code) == (403, 404, 405)
    assert {row.path for row in rows} == {"/external/{host}/{route}"}


async def test_a_hosted_model_needs_its_own_permission_and_never_falls_back(tmp_path: Path) -> None:
    """403 for a user, by name, stub or tool; nothing else is used instead. Admins pass, unless nobody may."""
    stub = Answer(
        status=200,
        body=json.dumps(
            {"models": [{"name": "mine:1b", "size": 300, "digest": "0", "remote_host": "https://ollama.com:443"}]}
        ).encode(),
    )
    asked = [
        ("/api/chat", {"model": "gpt-oss:120b-cloud", "messages": []}),
        ("/api/generate", {"model": "llama3.1:8b:CLOUD", "prompt": "x"}),
        ("/v1/chat/completions", {"model": "llama3.1:cloud", "messages": []}),
        ("/api/show", {"model": "gpt-oss:20b-cloud"}),
        ("/v1/messages", {"model": "llama3.1:8b", "max_tokens": 3, "tools": [{"type": "web_search_20250305"}]}),
        ("/api/chat", {"model": "mine:1b", "messages": []}),
    ]
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        OllamaSimulator(models=[]) as other,
    ):
        other.misbehave(stub, path="/api/tags")
        servers = {"one": server_entry(sim), "two": server_entry(other)}
        for rule, allowed in (("admin", False), ("none", False), ("all", True)):
            async with running_router(tmp_path, servers, cloud=rule) as router, router.client() as client:
                for path, body in asked:
                    sim.requests.clear()
                    other.requests.clear()
                    response = await client.post(path, json=body)
                    reached = [one for one in (*sim.requests, *other.requests) if one.header("x-request-id")]
                    assert (response.status_code == 403) is not allowed, (rule, path)
                    assert bool(reached) is allowed, (rule, path)
                    assert allowed or "ollama.com" in response.text
                async with router.client(router.admin_token) as admin:
                    response = await admin.post("/api/chat", json=asked[0][1])
                    assert (response.status_code == 403) is (rule == "none")


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_disabled_assignment_opens_no_way_to_the_cloud(tmp_path: Path, enabled: bool) -> None:
    """A model assigned to an external host runs there; once the host is off, the name means ollama.com again."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        OllamaSimulator(models=[model("x:cloud")]) as provider,
        running_router(
            tmp_path,
            {"one": server_entry(sim)},
            external_hosts={
                "provider": {"host": "127.0.0.1", "port": provider.port, "protocol": "http", "enabled": enabled}
            },
            model_config={"explicit_assignments": {"x:cloud": "provider"}},
        ) as router,
        router.client() as client,
    ):
        response = await client.post("/v1/chat/completions", json={"model": "x:cloud", "messages": [_HELLO]})
        assert bool(provider.requests_to("/v1/chat/completions")) is enabled
        assert not sim.requests_to("/v1/chat/completions")
    assert (response.status_code == 403) is not enabled


_HELLO = {"role": "user", "content": "hello"}


async def test_a_token_in_the_path_works_when_a_setting_allows_it_and_is_nowhere_to_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """For clients that can send no header; rows, logs and servers never see it. Off, such a path is unknown."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, token_in_path=True) as router,
        router.client("") as client,
    ):
        token = router.token
        good = await client.post(f"/t/{token}/api/chat?x={token}", json=CHAT)
        heads = [(await client.head(f"/t/{token}{rest}")).status_code for rest in ("", "/")]
        both = await client.get(f"/t/{token}/api/tags", headers={"x-api-key": router.admin_token})
        wrong = [
            (await client.get(path)).status_code
            for path in ("/t/wrong/api/tags", f"/t/{token}%00/api/tags", f"/t//{token}", f"/t/{token}/router/status")
        ]
        rows = await router.rows(1)
        seen = repr([(one.target, one.headers) for one in sim.requests])
    async with running_router(tmp_path, {"one": server_entry(sim)}) as router, router.client("") as client:
        off = await client.post(f"/t/{token}/api/chat", json=CHAT)
    assert good.status_code == 200
    assert heads == [200, 200]
    assert (both.status_code, wrong) == (400, [401, 404, 404, 404])
    assert (off.status_code, off.text) == (404, "404 page not found")
    told = caplog.text + "".join(capsys.readouterr()) + repr(rows) + seen + good.text + repr(good.headers) + off.text
    assert token not in told


LAUNCHED = {
    "claude": ("/v1/messages", {"authorization": "Bearer ollama", "x-api-key": ""}),
    "codex": ("/v1/responses", {"authorization": "Bearer ollama"}),
    "copilot": ("/v1/responses", {}),
    "droid": ("/v1/chat/completions", {"authorization": "Bearer ollama"}),
    "opencode": ("/v1/chat/completions", {}),
    "cline": ("/api/chat", {}),
    "openclaw": ("/api/chat", {"authorization": "Bearer ollama-local"}),
}
"""What tools send that `ollama launch` starts: the route, and the fixed words for want of a key. Source: cmd/launch."""


async def test_tools_that_ollama_launch_starts_need_nothing_but_the_token_in_the_path(tmp_path: Path) -> None:
    """Each is answered under its own route and with its own words for a key."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, token_in_path=True) as router,
        router.client("") as client,
    ):
        said = [{"role": "user", "content": "hi"}]
        body = {"model": CHAT["model"], "messages": said, "input": "hi", "max_tokens": 8, "stream": False}
        answers = {
            tool: (await client.post(f"/t/{router.token}{path}", json=body, headers=headers)).status_code
            for tool, (path, headers) in LAUNCHED.items()
        }
    assert answers == dict.fromkeys(LAUNCHED, 200)


async def test_a_tool_s_placeholder_is_no_second_credential(tmp_path: Path) -> None:
    """Tools for a local Ollama send a fixed word for a key: beside a token in the path it counts as none."""
    words = ({"authorization": "Bearer ollama"}, {"x-api-key": "ollama-local"}, {"Authorization": "bearer ollama"})
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, token_in_path=True) as router,
        router.client("") as client,
    ):
        path = f"/t/{router.token}/api/tags"
        good = [(await client.get(path, headers=headers)).status_code for headers in words]
        alone = [(await client.get("/api/tags", headers=headers)).status_code for headers in words]
        other = await client.get(path, headers={"authorization": "Bearer ollamas"})
    assert (good, alone, other.status_code) == ([200] * 3, [401] * 3, 400)


async def test_the_upstream_path_is_built_from_the_table(tmp_path: Path) -> None:
    """Queries are dropped, and nothing that is not in the table reaches a server under any spelling."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        targets = [
            "/api/chat?model=x&stream=1",
            "/api/chat;x",
            "/api/%2e%2e/api/chat",
            "/api/blobs/..",
            "/api/chat%0d%0aX:y",
        ]
        statuses = [await _post(router.port, target, router.admin_token) for target in targets]
        asked = {one.target for one in sim.requests if one.header("x-request-id")}
    assert statuses[0] == 200
    assert all(status in {400, 404, 405} for status in statuses[1:])
    assert asked == {"/api/chat"}


async def _post(port: int, target: str, token: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(CHAT).encode()
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ", 2)[1])
