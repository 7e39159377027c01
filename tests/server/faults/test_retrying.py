"""What is tried again and what never is, in numbers, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from pathlib import Path

import httpx
import openai
import pytest

from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.eventually import eventually
from support.faulty_ollama import STREAM, chunk, entry, faulty_ollama, length_of, whole
from support.router import RunningRouter, running_router, server_entry
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": False}
AT_ONCE = 20


async def ask_often(router: RunningRouter, count: int, **body: object) -> list[httpx.Response | httpx.HTTPError]:
    """That many requests, twenty at a time; what came back, cut answers as errors."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(client: httpx.AsyncClient) -> httpx.Response | httpx.HTTPError:
        async with gate:
            try:
                return await client.post("/api/chat", json={**CHAT, **body})
            except httpx.HTTPError as error:
                return error

    async with router.client() as client:
        return list(await asyncio.gather(*(ask(client) for _ in range(count))))


@pytest.mark.parametrize(("cancels", "most"), [(True, 1000), (False, 500)])
async def test_a_request_is_delivered_to_a_server_once(tmp_path: Path, cancels: bool, most: int) -> None:
    """500 requests, each reset after it was read: one delivery to each of two servers, where runs end with connections.

    One that met a connection kept from a health check goes there on a fresh one, too. Where a server finishes what it
    began there are 500 deliveries in all.
    """
    delivered = 0

    async def resets(peer: Peer, head: bytes) -> bool:
        nonlocal delivered
        body = await peer.body(length_of(head))
        delivered += not cancels or peer.received == head + body
        peer.reset()
        return False

    async with (
        faulty_ollama(resets) as one,
        faulty_ollama(resets) as two,
        running_router(
            tmp_path,
            {name: entry(server, cancels_on_disconnect=cancels) for name, server in (("one", one), ("two", two))},
        ) as router,
    ):
        answers = await ask_often(router, 500)
    assert Counter(answer.status_code for answer in answers if isinstance(answer, httpx.Response)) == {502: 500}
    assert 500 <= delivered <= most


async def test_nothing_is_tried_again_once_the_client_has_a_byte(tmp_path: Path) -> None:
    """200 streams, each cut later than the one before: 200 requests at the servers, no answer made of two."""
    served: Counter[str] = Counter()

    def cuts(letter: bytes):
        async def cut(peer: Peer, head: bytes) -> bool:
            await peer.body(length_of(head))
            served[letter.decode()] += 1
            await peer.send(STREAM + chunk(letter * sum(served.values())))
            peer.reset()
            return False

        return cut

    async def read(client: httpx.AsyncClient) -> bytes:
        seen = b""
        with contextlib.suppress(httpx.HTTPError):
            async with client.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as response:
                async for piece in response.aiter_raw():
                    seen += piece
        return seen

    async with (
        faulty_ollama(cuts(b"a")) as one,
        faulty_ollama(cuts(b"b")) as two,
        running_router(tmp_path, {"one": entry(one), "two": entry(two)}) as router,
        router.client() as client,
    ):
        bodies = [await read(client) for _ in range(200)]
    assert sum(served.values()) == 200
    assert not any(body.count(b"aa") and body.count(b"bb") for body in bodies)


STATUSES = (400, 401, 403, 408, 409, 413, 422, 429, 500, 501, 502, 503, 504, 507, 529, 404)
"""404 comes last: with it a server loses its model."""


async def test_only_a_refusal_to_start_goes_to_another_server(tmp_path: Path) -> None:
    """429, 503 and 529 do; every other status is the answer, as long as a server's words do not say more."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as first,
        OllamaSimulator(models=[model(MODEL)]) as second,
        running_router(tmp_path, {"1": server_entry(first), "2": server_entry(second, priority=2)}) as router,
        router.client() as client,
    ):
        found = {}
        for status in STATUSES:
            first.misbehave(Answer(status=status, body=b'{"error":"no"}'), path="/api/chat", times=1)
            answer = await client.post("/api/chat", json=CHAT)
            found[status] = (answer.status_code, answer.headers["x-router-attempts"])
    again = {429, 503, 529}
    assert found == {status: (200, "2") if status in again else (status, "1") for status in STATUSES}


async def test_four_dead_servers_are_three_attempts(tmp_path: Path) -> None:
    """They were up when last asked and refuse now: three connects, an answer well within ten seconds."""
    async with contextlib.AsyncExitStack() as stack:
        sims = [await stack.enter_async_context(OllamaSimulator(models=[model(MODEL)])) for _ in range(4)]
        servers = {str(number): server_entry(sim) for number, sim in enumerate(sims)}
        router = await stack.enter_async_context(running_router(tmp_path, servers, health_check_interval=60))
        client = await stack.enter_async_context(router.client())
        for sim in sims:
            sim.pause()
            sim.drop_connections()
        began = time.monotonic()
        answer = await client.post("/api/chat", json=CHAT)
    assert (answer.status_code, answer.headers["x-router-attempts"]) == (502, "3")
    assert time.monotonic() - began < 10


async def test_half_of_the_servers_failing_costs_few_attempts_more(tmp_path: Path) -> None:
    """100 at once, two of four servers refuse everything, two are full: at most 1.2 attempts a request, and three."""
    attempts = holding = 0
    held = asyncio.Event()

    async def works(peer: Peer, head: bytes) -> None:
        nonlocal attempts, holding
        attempts, holding = attempts + 1, holding + 1
        await peer.body(length_of(head))
        await held.wait()
        await peer.send(whole())

    async def refuses(peer: Peer, head: bytes) -> None:
        nonlocal attempts
        attempts += 1
        await peer.body(length_of(head))
        await eventually(lambda: attempts >= 100)  # all hundred are under way together
        await peer.send(b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 16\r\n\r\n{"error":"busy"}')

    async with contextlib.AsyncExitStack() as stack:
        servers = {
            str(number): entry(await stack.enter_async_context(faulty_ollama(script)))
            for number, script in enumerate((works, works, refuses, refuses))
        }
        router = await stack.enter_async_context(running_router(tmp_path, servers, routing_strategy="least_loaded"))
        client = await stack.enter_async_context(router.client(limits=httpx.Limits(max_connections=120)))
        asking = [asyncio.create_task(client.post("/api/chat", json=CHAT)) for _ in range(100)]
        await eventually(lambda: sum(task.done() for task in asking) + holding == 100)
        held.set()
        await asyncio.gather(*asking)
    assert attempts <= 1.2 * 100 + 3


async def test_clients_that_retry_do_not_multiply_attempts(tmp_path: Path) -> None:
    """A dead fleet is worth coming back to, after a while: by then it is known to be dead, and no server is tried."""
    async with contextlib.AsyncExitStack() as stack:
        sims = [await stack.enter_async_context(OllamaSimulator(models=[model(MODEL)])) for _ in range(3)]
        servers = {str(number): server_entry(sim) for number, sim in enumerate(sims)}
        router = await stack.enter_async_context(running_router(tmp_path, servers, health_check_interval=60))
        client = await stack.enter_async_context(router.client())
        for sim in sims:
            sim.pause()
            sim.drop_connections()
        first = await client.post("/v1/chat/completions", json=CHAT)
        await eventually(lambda: not any(facts.up for facts in router.services.fleet.servers.values()))
        second = await client.post("/v1/chat/completions", json=CHAT)
        rows = await router.rows(2)
    assert [answer.status_code for answer in (first, second)] == [502, 503]
    assert all("x-should-retry" not in answer.headers for answer in (first, second))
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in (first, second))
    assert sorted(row.attempts for row in rows) == [0, 3]


async def test_servers_that_all_refuse_are_not_asked_in_threes(tmp_path: Path) -> None:
    """Both say 503: two attempts, the second's own answer, and the word that ends the client's trying."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two)}) as router,
        openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key=router.token, max_retries=2) as sdk,
    ):
        for sim in (one, two):
            sim.misbehave(Answer(status=503, body=b'{"error":"busy"}'), path="/v1/chat/completions")
        with pytest.raises(openai.APIStatusError):
            await sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        asked = [len(sim.requests_to("/v1/chat/completions")) for sim in (one, two)]
    assert asked == [1, 1]


async def test_a_full_line_is_worth_coming_back_to(tmp_path: Path) -> None:
    """Nothing was sent to a server: no word against retrying, and Retry-After says when; the client gets its answer."""
    release = asyncio.Event()

    async def slow(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        await release.wait()
        await peer.send(whole(b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[]}'))
        return True

    async with (
        faulty_ollama(slow) as one,
        running_router(tmp_path, {"one": {**entry(one), "max_concurrent": 1}}, queue={"max_waiting": 0}) as router,
        router.client() as client,
        openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key=router.token, max_retries=2) as sdk,
    ):
        holding = asyncio.create_task(client.post("/api/chat", json=CHAT))
        await eventually(lambda: router.services.fleet.running("one") == 1)
        refused = await client.post("/v1/chat/completions", json=CHAT)
        coming_back = asyncio.create_task(
            sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        )
        await router.rows(2)  # both refusals
        release.set()
        await holding
        assert (await coming_back).id == "1"
    assert refused.status_code == 503
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert "x-should-retry" not in refused.headers


async def test_a_dead_fleet_is_told_at_once(tmp_path: Path) -> None:
    """Known to be down: 200 answers of 503 with Retry-After, each with less than 50 ms of work, and none hangs."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, health_check_interval=0.2) as router,
        router.client() as client,
    ):
        sim.pause()
        sim.drop_connections()
        await eventually(lambda: router.services.fleet.snapshot.servers["one"].up is False)
        began = time.process_time()
        async with asyncio.timeout(30):
            answers = [await client.post("/api/chat", json=CHAT) for _ in range(200)]
        used = time.process_time() - began
    assert {answer.status_code for answer in answers} == {503}
    assert all(1 <= int(answer.headers["retry-after"]) <= 30 for answer in answers)
    assert used / 200 < 0.05
