"""What the client-side router does for a program; the fleet is in memory."""

from __future__ import annotations

import gc
import hashlib
import json
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from ollama_router_core import MemorySink, RouterTransport
from ollama_router_core.config import ExternalHost
from ollama_router_core.errors import ConfigError
from ollama_router_core.testing import FakeFleet, SimulatorThread
from support.waiting import wait_until

CHAT: dict[str, Any] = {"model": "qwen3:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
KEY = "sk-canary-31c7"


def _client(transport: RouterTransport) -> httpx.Client:
    return httpx.Client(transport=transport, base_url="http://router")


def test_a_request_goes_to_a_server_that_has_the_model(fleet: FakeFleet) -> None:
    """The host in the program's URL means nothing: the model's name decides."""
    with httpx.Client(transport=RouterTransport(fleet.config, inner=fleet)) as client:
        answer = client.post("http://anything:1/api/chat", json=CHAT)
    assert answer.json()["message"]["content"] == fleet.answer
    assert answer.headers["x-router-server"] == "b"
    assert [one.server for one in fleet.requests] == ["b"]


def test_a_program_may_name_the_server(fleet: FakeFleet) -> None:
    """Whichever would be chosen; nothing else is tried, and the name reaches no server."""
    chat = {**CHAT, "model": "llama3.1:8b"}
    with _client(RouterTransport(fleet.config, inner=fleet)) as client:
        for name in ("b", "a", "b"):
            answer = client.post("/api/chat", json=chat, headers={"x-router-pin": name})
            assert answer.headers["x-router-server"] == name
        assert client.post("/api/chat", json=CHAT, headers={"x-router-pin": "a"}).status_code == 404
        assert client.post("/api/chat", json=chat, headers={"x-router-pin": "c"}).status_code == 400
    assert [one.server for one in fleet.requests] == ["b", "a", "b"]


def test_the_programs_credentials_and_cookies_stay_here(fleet: FakeFleet) -> None:
    """A key that an SDK insists on is not handed to servers, and answers set no cookies."""
    seen: list[httpx.Headers] = []

    class Watching:
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/api/chat":  # what the router itself asks may come later
                seen.append(request.headers)
            answer: httpx.Response = fleet.handle_request(request)
            answer.headers["set-cookie"] = "user=1"
            return answer

        def close(self) -> None:
            pass

    with _client(RouterTransport(fleet.config, inner=Watching())) as client:
        client.post(
            "/api/chat", json=CHAT, headers={"authorization": "Bearer secret", "x-own": "1", "user-agent": "me"}
        )
        assert not client.cookies
    assert seen[-1]["user-agent"] == "me"
    assert not {"authorization", "x-own", "cookie"} & set(seen[-1])


def test_a_server_that_refuses_is_passed_over(fleet: FakeFleet, settled: Callable[[object], None]) -> None:
    """Nothing was sent, so the next server of the ranking is asked, and the answer says how many were."""
    transport = RouterTransport(fleet.config, inner=fleet)
    with _client(transport) as client:
        first = client.post("/api/chat", json={**CHAT, "model": "llama3.1:8b"}).headers["x-router-server"]
        client.get("/api/ps")
        settled(transport)
        fleet.down.add(first)
        answer = client.post("/api/chat", json={**CHAT, "model": "llama3.1:8b"})
    assert answer.status_code == 200
    assert answer.headers["x-router-server"] != first
    assert answer.headers["x-router-attempts"] == "2"


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_when_nobody_can_be_reached_the_librarys_own_exception_is_raised(fleet: FakeFleet, library: Any) -> None:
    """Programs catch what they always caught; the text says what was tried."""
    with library.Client(transport=RouterTransport(fleet.config, inner=fleet), base_url="http://router") as client:
        client.get("/api/version")
        fleet.down |= {"a", "b"}
        with pytest.raises(library.ConnectError, match="no server could be reached"):
            client.post("/api/chat", json=CHAT)


def test_a_server_that_is_back_is_used_again(fleet: FakeFleet, clock: Any, settled: Callable[[object], None]) -> None:
    """After two probes that pass, as for the proxy; each runs in the background of a request that finds it due."""
    fleet.down.add("b")
    transport = RouterTransport(fleet.config, inner=fleet, clock=clock)
    with _client(transport) as client:
        missing = client.post("/api/chat", json=CHAT)
        assert (missing.status_code, missing.json()["error"]) == (
            404,
            "model 'qwen3:8b' not found (b could not be queried)",
        )
        fleet.down.clear()
        for pause in (6, 1.1):
            assert client.post("/api/chat", json=CHAT).status_code == 404
            clock.now += pause
            client.get("/api/ps")
            settled(transport)
        assert client.post("/api/chat", json=CHAT).status_code == 200


def test_a_model_that_was_just_pulled_is_found(fleet: FakeFleet) -> None:
    """Before a model is called missing, every server is asked once more, at most every five seconds."""
    transport = RouterTransport(fleet.config, inner=fleet)
    with _client(transport) as client:
        client.get("/api/version")
        fleet._models["a"] = ("new:1b",)
        assert client.post("/api/chat", json={**CHAT, "model": "new:1b"}).headers["x-router-server"] == "a"
        fleet._models["b"] = ("newer:1b",)
        assert client.post("/api/chat", json={**CHAT, "model": "newer:1b"}).status_code == 404


def test_one_look_for_a_model_is_for_all_who_miss_it(fleet: FakeFleet) -> None:
    """Eight requests for a model that was just pulled past the router: servers are asked once, all are answered."""
    looks: list[str] = []
    all_miss_it = threading.Barrier(2)

    class Slow:
        def handle_request(self, request: httpx.Request) -> Any:
            if request.url.path == "/api/tags" and fleet._models["a"] == ("new:1b",):
                looks.append(request.url.host)
                if len(looks) == 1:
                    all_miss_it.wait(20)
            return fleet.handle_request(request)

        def close(self) -> None:
            pass

    transport = RouterTransport(fleet.config, inner=Slow())
    with _client(transport) as client, ThreadPoolExecutor(8) as pool:
        client.get("/api/version")
        fleet._models["a"] = ("new:1b",)
        asked = [pool.submit(client.post, "/api/chat", json={**CHAT, "model": "new:1b"}) for _ in range(8)]
        wait_until(lambda: transport._state.fleet.looking, "somebody looks")
        all_miss_it.wait(20)
        assert {one.result().status_code for one in asked} == {200}
    assert sorted(looks) == ["a", "b"]


def test_explain_tells_every_server_and_sends_nothing(fleet: FakeFleet) -> None:
    """The decision is the one that a request would meet."""
    with RouterTransport(fleet.config, inner=fleet) as transport:
        decision = transport.explain("qwen3:8b", context=8192)
        assert decision.server == "b"
        assert {verdict.server: verdict.verdict for verdict in decision.verdicts} == {"a": "refused", "b": "chosen"}
        assert transport.explain("nobody:1b").error is not None
    assert not fleet.requests


def test_each_request_leaves_one_record(fleet: FakeFleet) -> None:
    """Tokens are the server's own, prompts are not in it, and reading a stream to its end ends the request."""
    sink = MemorySink()
    with _client(RouterTransport(fleet.config, inner=fleet, sink=sink)) as client:
        client.post("/api/chat", json={**CHAT, "stream": True})
        client.post("/api/chat", json={**CHAT, "model": "nobody:1b"})
    row, refused = sink.records
    assert (row.server, row.status, row.streamed) == ("b", 200, True)
    assert (row.prompt_tokens, row.completion_tokens) == (5, 2)
    assert row.ttft_ms is not None
    assert (refused.status, refused.error_code) == (404, "model_not_found")


def test_a_stream_that_the_program_leaves_counts_as_left(fleet: FakeFleet) -> None:
    """The record says 499, the server is free again and not blamed."""
    sink = MemorySink()
    transport = RouterTransport(fleet.config, inner=fleet, sink=sink)
    with _client(transport) as client, client.stream("POST", "/api/chat", json={**CHAT, "stream": True}):
        assert transport.snapshot.in_flight == {"b": 1}
    assert sink.records[0].status == 499
    assert transport.snapshot.in_flight == {"b": 0}
    assert not transport.snapshot.suspended


def test_a_server_that_keeps_failing_is_left_alone(fleet: FakeFleet) -> None:
    """Five failures in a row put it out; the other one serves those five, too, and the reason says so."""
    cut = 0

    class Failing:
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal cut
            if request.url.host == "b" and request.url.path == "/api/chat":
                cut += 1
                raise httpx.ReadError("cut")
            answer: httpx.Response = fleet.handle_request(request)
            return answer

        def close(self) -> None:
            pass

    config = fleet.config.model_copy(update={"routing_strategy": "round_robin"})
    transport = RouterTransport(config, inner=Failing())
    with _client(transport) as client:
        statuses = [client.post("/api/chat", json={**CHAT, "model": "llama3.1:8b"}).status_code for _ in range(20)]
        decision = transport.explain("llama3.1:8b")
    assert (cut, statuses) == (5, [200] * 20)
    assert {verdict.server: verdict.verdict for verdict in decision.verdicts} == {"a": "chosen", "b": "refused"}


def test_twenty_threads_share_one_transport(fleet: FakeFleet) -> None:
    """Counts are exact afterwards, and facts were asked for once."""
    transport = RouterTransport(fleet.config, inner=fleet, sink=(sink := MemorySink()))
    with _client(transport) as client, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.post("/api/chat", json=CHAT).status_code, range(200)))
    assert answers == [200] * 200
    assert transport.snapshot.in_flight == {"b": 0}
    assert len({row.id for row in sink.records}) == 200


@pytest.mark.parametrize("ends", ["done", "failed", "left"])
def test_counts_of_several_threads_are_exact(fleet: FakeFleet, clock: Any, ends: str) -> None:
    """Two hundred requests of twenty threads: none is left in flight, no retry is lost, however they end."""

    class Ending:
        def handle_request(self, request: httpx.Request) -> Any:
            if ends == "failed" and request.url.path == "/api/chat" and request.url.host == "b":
                raise httpx.ConnectError("refused")
            return fleet.handle_request(request)

        def close(self) -> None:
            pass

    transport = RouterTransport(fleet.config, inner=Ending(), clock=clock)

    def one(_: int) -> None:
        with client.stream("POST", "/api/chat", json={**CHAT, "model": "llama3.1:8b"}) as answer:
            if ends != "left":
                answer.read()

    with _client(transport) as client, ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(200)))
    assert not any(transport.snapshot.in_flight.values())
    assert sum(transport._state.fleet.take_retry(0) for _ in range(9)) == 3


def test_close_leaves_no_thread(fleet: FakeFleet) -> None:
    """Questions run in threads of their own only while they run; close waits for them."""
    before = set(threading.enumerate())
    transport = RouterTransport(fleet.config, inner=fleet)
    client = _client(transport)
    client.post("/api/chat", json=CHAT)
    client.close()
    assert set(threading.enumerate()) <= before


def test_a_transport_that_was_closed_is_forgotten(fleet: FakeFleet) -> None:
    """Nothing holds its facts, its sink or what it was handed: no thread, no cache, no answer that was read."""
    transport = RouterTransport(fleet.config, inner=fleet, sink=MemorySink())
    with _client(transport) as client:
        answers = [client.post("/api/chat", json=CHAT) for _ in range(3)]
    left = weakref.ref(transport._state)
    del transport, client
    gc.collect()
    assert left() is None
    assert [answer.status_code for answer in answers] == [200] * 3


def test_from_file_and_from_urls(tmp_path: Path) -> None:
    """A config file of the server, or addresses as OLLAMA_HOST is written."""
    file = tmp_path / "orouter.yml"
    file.write_text(
        "production:\n  servers:\n    big: {host: 10.0.0.1}\nhome:\n  servers:\n    mac: {host: mac.local}\n"
    )
    with RouterTransport.from_file(file, environment={}) as transport:
        assert set(transport.snapshot.servers) == {"big"}
    with RouterTransport.from_file(file, "home") as transport:
        assert set(transport.snapshot.servers) == {"mac"}
    with RouterTransport.from_urls(["gpu", "http://box:8080", "box:9090"]) as transport:
        assert set(transport.snapshot.servers) == {"gpu", "box-8080", "box-9090"}
    with pytest.raises(ConfigError):
        RouterTransport.from_file(tmp_path / "missing.yml")
    with pytest.raises(ConfigError):
        RouterTransport.from_urls([])


def test_an_external_host_gets_its_key_and_nobody_else_sees_it(fleet: FakeFleet, tmp_path: Path) -> None:
    """The key comes from a file or the environment; errors that echo it are cleaned."""
    (tmp_path / "key").write_text(f"{KEY}\n")
    seen: list[httpx.Request] = []

    def host(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(400, json={"error": {"message": f"bad key {KEY}"}}, headers={"x-echo": KEY})

    paid = ExternalHost(host="paid", api="openai", path_prefix="/openai/v1", api_key_file=str(tmp_path / "key"))
    models = fleet.config.models.model_copy(update={"explicit_assignments": {"gpt-4": "paid"}})
    config = fleet.config.model_copy(update={"external_hosts": {"paid": paid}, "models": models, "servers": {}})
    transport = RouterTransport(config, inner=httpx.MockTransport(host))
    with _client(transport) as client:
        translated = client.post("/api/chat", json={**CHAT, "model": "gpt-4"})
        passed = client.post("/v1/chat/completions", json={**CHAT, "model": "gpt-4"})
    assert [one.url.path for one in seen] == ["/openai/v1/chat/completions"] * 2
    assert {one.headers["authorization"] for one in seen} == {f"Bearer {KEY}"}
    for answer in (translated, passed):
        assert answer.status_code == 400
        assert KEY not in answer.text + str(answer.headers)
    assert KEY not in repr(transport._state.environment.destinations)


def test_a_streamed_upload_is_read_before_it_is_routed(fleet: FakeFleet) -> None:
    """Programs may hand their body over in pieces; what is checked is the whole."""
    with _client(RouterTransport(fleet.config, inner=fleet)) as client:
        answer = client.post("/api/chat", content=iter([json.dumps(CHAT)[:9].encode(), json.dumps(CHAT)[9:].encode()]))
    assert answer.status_code == 200


def test_requests_of_other_libraries_are_refused_by_name(fleet: FakeFleet) -> None:
    """A transport that is handed something else says what it takes."""
    with RouterTransport(fleet.config, inner=fleet) as transport, pytest.raises(TypeError, match="httpx or httpx2"):
        transport.handle_request(object())


def test_what_must_stay_local_does_not_leave(fleet: FakeFleet) -> None:
    """`local_only` holds for a program as for the proxy: no such model is sent on, nor assigned to somebody else."""
    paid = ExternalHost(host="paid")
    update = {"explicit_assignments": {"secret:1b": "paid"}, "local_only": ("secret*",)}
    models = fleet.config.models.model_copy(update=update)
    config = fleet.config.model_copy(update={"external_hosts": {"paid": paid}, "models": models})
    with pytest.raises(ConfigError, match="secret:1b must stay local"):
        RouterTransport(config, inner=fleet, environment={})
    config = config.model_copy(update={"models": models.model_copy(update={"explicit_assignments": {}})})
    with _client(RouterTransport(config, inner=fleet, environment={})) as client:
        answer = client.post("/api/chat", json={**CHAT, "model": "secret:1b-cloud"})
    assert answer.status_code == 403
    assert not fleet.requests


def test_aliases_stand_ins_and_draining_servers(fleet: FakeFleet) -> None:
    """The config's policy is applied as in the proxy."""
    update = {"aliases": {"small": "qwen3:8b"}, "fallbacks": {"missing:1b": "qwen3:8b"}}
    models = fleet.config.models.model_copy(update=update)
    servers = {**fleet.config.servers, "a": fleet.config.servers["a"].model_copy(update={"drain": True})}
    transport = RouterTransport(fleet.config.model_copy(update={"models": models, "servers": servers}), inner=fleet)
    with _client(transport) as client:
        assert client.post("/api/chat", json={**CHAT, "model": "small"}).status_code == 200
        instead = client.post("/api/chat", json={**CHAT, "model": "missing:1b"})
        assert instead.headers["x-router-fallback"] == "qwen3:8b"
        assert client.post("/api/chat", json={**CHAT, "model": "llama3.1:8b"}).headers["x-router-server"] == "b"


def test_what_is_made_of_files_is_made_where_they_are() -> None:
    """An upload goes to one server, and the model is made there; `X-Router-Target` names another."""
    blob = "/api/blobs/sha256:" + hashlib.sha256(b"GGUF").hexdigest()
    with SimulatorThread(models=[]) as one, SimulatorThread(models=[]) as two:
        transport = RouterTransport.from_urls([one.url, two.url])
        with _client(transport) as client:
            target = {"x-router-target": transport.explain("x").verdicts[-1].server}
            first = client.post(blob, content=b"GGUF", headers=target)
            body = {"model": "mine", "files": {"x.gguf": blob.removeprefix("/api/blobs/")}, "stream": False}
            made = client.post("/api/create", json=body)
            again = client.post(blob, content=b"GGUF")
            found = client.head(blob)
    assert (first.status_code, found.status_code) == (201, 200)
    assert first.headers["x-router-server"] == target["x-router-target"]
    assert made.headers["x-router-server"] == first.headers["x-router-server"]
    assert again.status_code in {200, 201}
