"""Servers that fail are believed for what they said, and the next one answers: rows of a running Ollama's failures."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import Answer, OllamaSimulator, Reset, model
from support.eventually import eventually
from support.faulty_ollama import STREAM, chunk, entry, faulty_ollama, length_of, whole
from support.plain_http import async_client
from support.router import RunningRouter, running_router, server_entry
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

MODEL, EMBEDDER = "llama3.1:8b", "nomic-embed-text"
HAVE = [model(MODEL), model(EMBEDDER)]
HI = [{"role": "user", "content": "hi"}]
ROUTES: Mapping[str, Mapping[str, Any]] = {
    "/api/chat": {"messages": HI},
    "/api/generate": {"prompt": "hi"},
    "/api/embed": {"model": EMBEDDER, "input": "hi"},
    "/v1/chat/completions": {"messages": HI},
    "/v1/messages": {"messages": HI, "max_tokens": 9},
    "/v1/responses": {"input": "hi"},
}
CALM = {"health_check_interval": 300.0}
DAMAGED = 'tensor "token_embd.weight" offset+size (268402688) exceeds file size (104857600)'
GONE = f'model "{MODEL}" not found, try pulling it first'


def error(status: int, text: str) -> Answer:
    """An error as Ollama writes one."""
    return Answer(status=status, body=json.dumps({"error": text}).encode())


async def ask(router: RunningRouter, count: int = 1, path: str = "/api/chat", **body: Any) -> list[httpx.Response]:
    """That many requests, one after the other."""
    async with router.client() as client:
        asked = {"model": MODEL, **ROUTES.get(path, {}), "stream": False, **body}
        return [await client.post(path, json=asked) for _ in range(count)]


def both(one: OllamaSimulator, two: OllamaSimulator) -> dict[str, dict[str, Any]]:
    """Entries of which the first is preferred."""
    return {"one": server_entry(one, priority=1), "two": server_entry(two, priority=2)}


@pytest.mark.parametrize("path", list(ROUTES))
@pytest.mark.parametrize(
    ("status", "text"),
    [
        (500, DAMAGED),
        (500, "llama runner process has terminated: exit status 2"),
        (500, "model requires more system memory (31.0 GiB) than is available (8.9 GiB)"),
        (404, GONE),
    ],
    ids=["damaged", "dead-runner", "memory", "gone"],
)
async def test_a_model_that_cannot_be_loaded_costs_nobody_an_answer(
    tmp_path: Path, path: str, status: int, text: str
) -> None:
    """30 requests, none fails; the server is asked once and then left alone, in its own words where `status` looks."""
    async with (
        OllamaSimulator(models=HAVE) as one,
        OllamaSimulator(models=HAVE) as two,
        running_router(tmp_path, both(one, two), **CALM) as router,
    ):
        one.misbehave(error(status, text), path=path)
        answers = await ask(router, 30, path)
        asked = len(one.requests_to(path))
        async with router.client(router.admin_token) as admin:
            shown = (await admin.get("/router/status")).json()["servers"]["one"]
    assert Counter(answer.status_code for answer in answers) == {200: 30}
    assert {answer.headers["x-router-server"] for answer in answers} == {"two"}
    assert asked == 1
    (found,) = shown["suspended_models"].values()
    assert found["error"] == text
    assert 0 < found["tried_again_in_seconds"] <= 12


@pytest.mark.parametrize(
    ("path", "kind"), [("/api/chat", "chat"), ("/api/generate", "generate"), ("/v1/messages", "chat")]
)
async def test_a_model_that_can_write_and_is_said_not_to_has_lost_its_weights(
    tmp_path: Path, path: str, kind: str
) -> None:
    """Ollama's words where the weights file is gone: the next server answers, and this one is left alone."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, both(one, two), **CALM) as router,
    ):
        one.misbehave(error(400, f'"{MODEL}" does not support {kind}'), path=path)
        answers = await ask(router, 10, path)
        asked = len(one.requests_to(path))
    assert {(answer.status_code, answer.headers["x-router-server"]) for answer in answers} == {(200, "two")}
    assert asked == 1


@pytest.mark.parametrize("strategy", ["priority_with_memory", "least_loaded", "round_robin", "fastest"])
async def test_another_500_is_seen_five_times_at_most(tmp_path: Path, strategy: str) -> None:
    """100 requests by each strategy: five failures reach clients, then the server is out for that model."""
    async with (
        OllamaSimulator(models=[model(MODEL), model("other:1b")]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, both(one, two), routing_strategy=strategy, **CALM) as router,
    ):
        one.misbehave(error(500, "something odd"), path="/api/chat")
        answers = await ask(router, 100)
        one.behave()
        (other,) = await ask(router, model="other:1b")
    failed = Counter(answer.status_code for answer in answers)[500]
    assert failed <= 5
    assert (other.status_code, other.headers["x-router-server"]) == (200, "one")


async def test_where_no_other_has_the_model_its_server_is_still_asked(tmp_path: Path) -> None:
    """Nothing would be gained by refusing: the server's own words are the answer, each time."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        running_router(tmp_path, {"one": server_entry(one)}, **CALM) as router,
    ):
        one.misbehave(error(500, DAMAGED), path="/api/chat")
        broken = await ask(router, 8)
        one.behave()
        (mended,) = await ask(router)
    assert [answer.json() for answer in broken] == [{"error": DAMAGED}] * 8
    assert mended.status_code == 200


async def test_three_damaged_servers_are_passed_over(tmp_path: Path) -> None:
    """As many as say so: each is asked once, and the fourth answers."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        OllamaSimulator(models=[model(MODEL)]) as three,
        OllamaSimulator(models=[model(MODEL)]) as four,
        running_router(
            tmp_path,
            {str(n): server_entry(sim, priority=n) for n, sim in enumerate((one, two, three, four))},
            **CALM,
        ) as router,
    ):
        for sim in (one, two, three):
            sim.misbehave(error(500, DAMAGED), path="/api/chat")
        first, second = await ask(router, 2)
    assert (first.status_code, first.headers["x-router-attempts"]) == (200, "4")
    assert (second.status_code, second.headers["x-router-attempts"]) == (200, "1")


async def test_what_every_server_would_refuse_is_refused_once(tmp_path: Path) -> None:
    """A request's own mistake, for which Ollama has a 500, puts no server out however often it is made."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, both(one, two), **CALM) as router,
    ):
        one.misbehave(error(500, 'option "top_k" must be of type integer'), path="/api/chat", times=8)
        refused = await ask(router, 8)
        (fine,) = await ask(router)
        asked = len(two.requests_to("/api/chat"))
    assert {answer.status_code for answer in refused} == {500}
    assert (fine.status_code, fine.headers["x-router-server"], asked) == (200, "one", 0)


async def test_a_deleted_model_is_answered_by_the_next_at_once(tmp_path: Path) -> None:
    """Deleted on one server behind the router's back: the first request after it succeeds, on the other."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, both(one, two), **CALM) as router,
    ):
        (before,) = await ask(router)
        async with async_client(one.url) as direct:
            assert (await direct.request("DELETE", "/api/delete", json={"model": MODEL})).status_code == 200
        after = await ask(router, 2)
        async with router.client() as client:
            shown = await client.post("/api/show", json={"model": MODEL})
    assert before.headers["x-router-server"] == "one"
    assert [(answer.status_code, answer.headers["x-router-server"]) for answer in after] == [(200, "two")] * 2
    assert shown.status_code == 200


async def test_a_route_that_a_server_lacks_is_found_on_another(tmp_path: Path) -> None:
    """`404 page not found` says nothing about models: the next server has the route, the model stays on the first."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, both(one, two), **CALM) as router,
    ):
        missing = Answer(status=404, body=b"404 page not found", content_type="text/plain")
        one.misbehave(missing, path="/v1/responses")
        answers = await ask(router, 3, "/v1/responses")
        (chat,) = await ask(router)
        two.misbehave(missing, path="/v1/responses")
        (nowhere,) = await ask(router, 1, "/v1/responses")
    assert {(answer.status_code, answer.headers["x-router-server"]) for answer in answers} == {(200, "two")}
    assert (chat.status_code, chat.headers["x-router-server"]) == (200, "one")
    assert (nowhere.status_code, nowhere.text) == (404, "404 page not found")


async def test_a_json_404_about_something_else_removes_no_model(tmp_path: Path) -> None:
    """It is the answer."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        running_router(tmp_path, {"one": server_entry(one)}, **CALM) as router,
    ):
        one.misbehave(error(404, "no such adapter"), path="/api/chat", times=1)
        odd, fine = await ask(router, 2)
    assert (odd.status_code, odd.json()) == (404, {"error": "no such adapter"})
    assert fine.status_code == 200


# --- connections that end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", list(ROUTES))
async def test_a_server_that_is_killed_takes_no_request_with_it(tmp_path: Path, path: str) -> None:
    """Reset after the request was read, before a byte of an answer: Ollama ends such a run, the next server answers."""
    async with (
        OllamaSimulator(models=HAVE) as one,
        OllamaSimulator(models=HAVE) as two,
        running_router(tmp_path, both(one, two), **CALM) as router,
    ):
        one.misbehave(Reset(), path=path)
        answers = await ask(router, 8, path)
        asked = len(one.requests_to(path))
    assert {(answer.status_code, answer.headers["x-router-server"]) for answer in answers} == {(200, "two")}
    assert asked <= 5 + 1  # a kept connection that is reset is tried again on a fresh one


async def test_two_requests_in_the_instant_of_the_kill(tmp_path: Path) -> None:
    """Both wait at a server that goes away with all its connections: both are answered by the other."""
    arrived: list[Peer] = []
    killed = False

    async def holds(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        arrived.append(peer)
        if not killed:
            await asyncio.Event().wait()
        peer.reset()
        return False

    async with (
        faulty_ollama(holds) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, {"one": entry(one), "two": server_entry(two, priority=2)}, **CALM) as router,
    ):
        asking = [asyncio.create_task(ask(router)) for _ in range(2)]
        await eventually(lambda: len(arrived) == 2)
        killed = True
        for peer in tuple(arrived):
            peer.reset()
        answers = [answer for found in await asyncio.gather(*asking) for answer in found]
    assert [(answer.status_code, answer.headers["x-router-server"]) for answer in answers] == [(200, "two")] * 2


async def test_a_server_that_may_finish_what_it_began_is_not_doubled(tmp_path: Path) -> None:
    """`cancels_on_disconnect: false`: one delivery, one 502, and the word against trying again."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(
            tmp_path,
            {
                "one": server_entry(one, priority=1, cancels_on_disconnect=False),
                "two": server_entry(two, priority=2),
            },
            **CALM,
        ) as router,
    ):
        one.misbehave(Reset(), path="/api/chat", times=1)
        (answer,) = await ask(router)
        asked = len(one.requests_to("/api/chat")), len(two.requests_to("/api/chat"))
    assert (answer.status_code, answer.headers["x-should-retry"]) == (502, "false")
    assert asked == (1, 0)


async def test_nothing_is_begun_again_after_the_first_byte(tmp_path: Path) -> None:
    """A stream that was reset after a piece is cut, whatever other servers there are."""

    async def cuts(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        await peer.send(STREAM + chunk(b'{"message":{"content":"a"},"done":false}\n'))
        peer.reset()
        return False

    async with (
        faulty_ollama(cuts) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, {"one": entry(one), "two": server_entry(two, priority=2)}, **CALM) as router,
        router.client() as client,
    ):
        with pytest.raises(httpx.TransportError):
            await client.post("/api/chat", json={"model": MODEL, "messages": HI})
        asked = len(two.requests_to("/api/chat"))
    assert asked == 0


Ending = Callable[[Peer], Awaitable[None]]


async def _close(peer: Peer) -> None:
    del peer  # the script's end closes it


async def _reset(peer: Peer) -> None:
    peer.reset()


def ends_every_kept_connection(ending: Ending, heads: list[bytes]) -> ScriptedServer:
    """Answers the first inference request of each connection; at the second it ends the connection."""
    served: set[int] = set()

    async def serve(peer: Peer, head: bytes) -> bool | None:
        if not head.startswith(b"POST") or b"/api/show" in head:
            await peer.send(whole())
            return None
        heads.append(head)
        await peer.body(length_of(head))
        if peer.number in served:
            await ending(peer)
            return False
        served.add(peer.number)
        await peer.send(whole())
        return None

    return faulty_ollama(serve)


@pytest.mark.parametrize("ending", [_close, _reset], ids=["closed", "reset"])
async def test_a_kept_connection_that_its_server_ends_is_replaced(tmp_path: Path, ending: Ending) -> None:
    """A restarted server, or one that ends idle connections: its requests are sent again on fresh ones, once."""
    heads: list[bytes] = []
    async with (
        ends_every_kept_connection(ending, heads) as one,
        running_router(tmp_path, {"one": entry(one)}, **CALM) as router,
    ):
        answers = await ask(router, 6)
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [answer.headers["x-router-attempts"] for answer in answers] == ["1"] * 6
    assert len(heads) <= 6 + 5


@pytest.mark.warm_only
async def test_what_must_not_run_twice_is_not_sent_again_after_a_reset(tmp_path: Path) -> None:
    """On a server that finishes what it began: each request is delivered once, and a reset is told."""
    heads: list[bytes] = []
    async with (
        ends_every_kept_connection(_reset, heads) as one,
        running_router(tmp_path, {"one": entry(one, cancels_on_disconnect=False)}, **CALM) as router,
    ):
        statuses = Counter(answer.status_code for answer in await ask(router, 6))
    assert set(statuses) == {200, 502}
    assert len(heads) == 6


# --- the retry budget -------------------------------------------------------------------------------------------------


async def test_a_full_queue_loses_nothing_while_another_server_is_idle(tmp_path: Path) -> None:
    """12 at once, one server's queue takes five: the others are answered by the idle server, budget or not."""
    held = asyncio.Event()
    waiting = 0

    async def queues(peer: Peer, head: bytes) -> None:
        nonlocal waiting
        await peer.body(length_of(head))
        if waiting >= 5:
            busy = b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'
            await peer.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%b" % (len(busy), busy))
            return
        waiting += 1
        await held.wait()
        await peer.send(whole())

    async with (
        faulty_ollama(queues) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, {"one": entry(one), "two": server_entry(two, priority=2)}, **CALM) as router,
    ):
        asking = [asyncio.create_task(ask(router)) for _ in range(12)]
        await eventually(lambda: sum(task.done() for task in asking) == 7)
        held.set()
        answers = [answer for found in await asyncio.gather(*asking) for answer in found]
    assert Counter(answer.status_code for answer in answers) == {200: 12}
