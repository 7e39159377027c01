"""Loading, slots, eviction, reloading, keep-alive and the full queue, seen from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.eventually import eventually
from support.plain_http import async_client

pytestmark = pytest.mark.anyio

GIB = 1 << 30


class Gate:
    """A sleep that blocks work until it is opened: time stands still without waiting."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def sleep(self, _: float) -> None:
        """Wait for the gate, however long was asked for."""
        await self.open.wait()


@pytest.fixture
def gate() -> Gate:
    """Closed at first."""
    return Gate()


@pytest.fixture
async def stuck(gate: Gate) -> AsyncIterator[OllamaSimulator]:
    """A server whose loads and tokens wait for the gate."""
    models = ["llama3.1:8b", "qwen3:8b", "mistral:7b"]
    async with OllamaSimulator(models=models, sleep=gate.sleep, max_queue=1) as simulator:
        yield simulator
        gate.open.set()


def ask(name: str, **more: Any) -> dict[str, Any]:
    """A short generation."""
    return {"model": name, "prompt": "hi", "stream": False, **more}


async def test_same_model_is_loaded_once(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """A burst for one cold model leads to a single load."""
    answers = await asyncio.gather(*(http.post("/api/generate", json=ask("llama3.1:8b")) for _ in range(10)))
    assert [one.status_code for one in answers] == [200] * 10
    assert (sim.loads, sim.in_flight, sim.max_in_flight) == (1, 0, 10)


@pytest.mark.parametrize(
    ("first", "second", "loads"),
    [
        ({}, {"num_ctx": 8192}, 2),
        ({"num_ctx": 8192}, {}, 2),
        ({"num_ctx": 8192}, {"num_ctx": 8192}, 1),
        ({"num_ctx": 8192}, {"num_ctx": 8192, "temperature": 1}, 1),
        ({}, {"num_gpu": -1}, 1),
        ({}, {"num_gpu": 0}, 2),
        ({}, {"main_gpu": 0}, 1),
        ({}, {"use_mmap": False}, 2),
    ],
)
async def test_runner_options_reload(
    sim: OllamaSimulator, http: httpx.AsyncClient, first: dict[str, Any], second: dict[str, Any], loads: int
) -> None:
    """A change of num_ctx, num_batch, num_gpu, main_gpu, use_mmap or num_thread reloads; sampling does not."""
    for options in (first, second):
        await http.post("/api/generate", json=ask("llama3.1:8b", options=options))
    assert (sim.loads, len(sim.loaded)) == (loads, 1)


async def test_slots_are_num_parallel(stuck: OllamaSimulator, gate: Gate) -> None:
    """A loaded model runs num_parallel requests; the rest wait without limit and without a 503."""
    stuck.num_parallel = 2
    async with async_client(stuck.url) as http:
        gate.open.set()
        await http.post("/api/generate", json={"model": "llama3.1:8b"})
        gate.open.clear()
        asked = [asyncio.ensure_future(http.post("/api/generate", json=ask("llama3.1:8b"))) for _ in range(6)]
        await eventually(lambda: stuck.in_flight == 6)
        (runner,) = stuck.scheduler.running()
        assert runner.references == 6
        assert runner.slots.locked()
        gate.open.set()
        assert {one.status_code for one in await asyncio.gather(*asked)} == {200}


async def test_full_queue_is_503(stuck: OllamaSimulator, gate: Gate) -> None:
    """One load runs, max_queue wait, the next is refused with the exact text; loaded models are not affected."""
    async with async_client(stuck.url) as http:
        names = ["llama3.1:8b", "qwen3:8b"]
        asked = [asyncio.ensure_future(http.post("/api/generate", json=ask(name))) for name in names]
        await eventually(lambda: stuck.scheduler.queued == 2)
        refused = await http.post("/api/chat", json={"model": "mistral:7b", "messages": [{"role": "user"}]})
        assert (refused.status_code, refused.json()) == (
            503,
            {"error": "server busy, please try again.  maximum pending requests exceeded"},
        )
        assert "retry-after" not in refused.headers
        gate.open.set()
        assert {one.status_code for one in await asyncio.gather(*asked)} == {200}


async def test_loads_are_serial(stuck: OllamaSimulator, gate: Gate) -> None:
    """A load blocks all others, whose load_duration includes the wait; a loading model is not in /api/ps."""
    async with async_client(stuck.url) as http:
        names = ["llama3.1:8b", "qwen3:8b"]
        asked = [asyncio.ensure_future(http.post("/api/generate", json=ask(name))) for name in names]
        await eventually(lambda: stuck.scheduler.queued == 2)
        assert stuck.loads == 1
        assert (await http.get("/api/ps")).json() == {"models": []}
        gate.open.set()
        durations = sorted(one.json()["load_duration"] for one in await asyncio.gather(*asked))
        assert stuck.loads == 2
        assert durations[1] == round((4_920_753_328 + 5_225_388_164) / 2e9 * 1e9) + 1_000_000


async def test_leaving_while_loading_aborts_the_load(stuck: OllamaSimulator, gate: Gate) -> None:
    """A client that disconnects during a load ends it; the next client starts from zero."""
    async with async_client(stuck.url) as http:
        asked = asyncio.ensure_future(http.post("/api/generate", json=ask("llama3.1:8b")))
        await eventually(lambda: stuck.loads == 1)
        asked.cancel()
        await eventually(lambda: stuck.aborted == 1)
        assert (stuck.aborted_loads, stuck.loaded, stuck.scheduler.queued) == (1, [], 0)
        gate.open.set()
        assert (await http.post("/api/generate", json=ask("llama3.1:8b"))).status_code == 200
        assert stuck.loads == 2


async def test_leaving_the_queue_leaves_no_trace(stuck: OllamaSimulator, gate: Gate) -> None:
    """A client that disconnects while it waits for another load is forgotten."""
    async with async_client(stuck.url) as http:
        first = asyncio.ensure_future(http.post("/api/generate", json=ask("llama3.1:8b")))
        await eventually(lambda: stuck.loads == 1)
        second = asyncio.ensure_future(http.post("/api/generate", json=ask("qwen3:8b")))
        await eventually(lambda: stuck.scheduler.queued == 2)
        second.cancel()
        await eventually(lambda: stuck.aborted == 1)
        gate.open.set()
        await first
        assert (stuck.loads, stuck.loaded) == (1, ["llama3.1:8b"])


async def test_leaving_a_generation_stops_it(gate: Gate) -> None:
    """A client that disconnects during a stream frees its slot at once."""
    async with (
        OllamaSimulator(answer_tokens=1_000_000) as simulator,
        async_client(simulator.url) as http,
    ):
        body = {"model": "llama3.1:8b", "prompt": "hi"}
        async with http.stream("POST", "/api/generate", json=body) as answer:
            async for _ in answer.aiter_lines():
                break
        await eventually(lambda: simulator.aborted == 1)
        (runner,) = simulator.scheduler.running()
        assert (runner.references, simulator.in_flight) == (0, 0)
        (record,) = simulator.requests
        assert (record.aborted, record.finished, record.complete) == (True, False, True)


async def test_eviction_takes_the_idle_one_with_the_shortest_keep_alive() -> None:
    """No room: idle before busy, then the shortest keep-alive, whatever was used last."""
    names = ["llama3.1:8b", "qwen3:8b", "mistral:7b"]
    async with OllamaSimulator(models=names, max_loaded_models=2) as simulator, async_client(simulator.url) as http:
        await http.post("/api/generate", json={"model": "llama3.1:8b", "keep_alive": "1h"})
        await http.post("/api/generate", json={"model": "qwen3:8b", "keep_alive": "2m"})
        await http.post("/api/generate", json={"model": "mistral:7b"})
        assert (sorted(simulator.loaded), simulator.evictions) == (["llama3.1:8b", "mistral:7b"], 1)


async def test_a_second_model_must_fit_into_four_fifths_of_what_is_free() -> None:
    """Weights plus KV cache of the second model are compared with 80 % of the free VRAM; the first always loads."""
    names = ["llama3.1:8b", "qwen3:8b", "llama3.3:70b"]
    async with (
        OllamaSimulator(models=names, vram=24 * GIB, default_context=4096) as simulator,
        async_client(simulator.url) as http,
    ):
        await http.post("/api/generate", json={"model": "llama3.1:8b"})
        await http.post("/api/generate", json={"model": "qwen3:8b"})
        assert (len(simulator.loaded), simulator.evictions) == (2, 0)
        await http.post("/api/generate", json={"model": "llama3.3:70b"})
        assert (simulator.loaded, simulator.evictions) == (["llama3.3:70b"], 2)
        (entry,) = (await http.get("/api/ps")).json()["models"]
        assert entry["size_vram"] == 24 * GIB < entry["size"]


@pytest.mark.parametrize(
    ("vram", "asked", "context"),
    [
        (8, None, 4096),
        (22, None, 4096),
        (23, None, 32_768),
        (46, None, 32_768),
        (47, None, 131_072),
        (48, None, 131_072),
        (8, 8192, 8192),
        (8, 10**7, 131_072),
        (8, 1, 4),
    ],
)
async def test_context_of_a_load(vram: int, asked: int | None, context: int) -> None:
    """The default context follows the VRAM, from 23 and 47 GiB on; any is clamped to what the model can."""
    async with OllamaSimulator(vram=vram * GIB) as simulator, async_client(simulator.url) as http:
        options = {} if asked is None else {"num_ctx": asked}
        await http.post("/api/generate", json={"model": "llama3.1:8b", "options": options})
        (entry,) = (await http.get("/api/ps")).json()["models"]
        assert entry["context_length"] == context


async def test_keep_alive_expires(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """A model goes when its keep-alive has passed, counted from the end of the last request."""
    await http.post("/api/generate", json=ask("llama3.1:8b", keep_alive="10m"))
    await http.post("/api/generate", json=ask("qwen3:8b"))
    sim.advance(299)
    assert sim.loaded == ["llama3.1:8b", "qwen3:8b"]
    sim.advance(2)
    assert sim.loaded == ["llama3.1:8b"]
    sim.advance(600)
    assert (await http.get("/api/ps")).json() == {"models": []}


async def test_keep_alive_zero_unloads_after_the_answer(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """keep_alive 0 with a prompt: answered, then unloaded."""
    assert (await http.post("/api/generate", json=ask("llama3.1:8b", keep_alive=0))).status_code == 200
    assert sim.loaded == []


async def test_unloading_a_busy_model_waits_for_its_requests(stuck: OllamaSimulator, gate: Gate) -> None:
    """An unload request answers at once; the model goes when its last request is finished."""
    async with async_client(stuck.url) as http:
        gate.open.set()
        await http.post("/api/generate", json={"model": "llama3.1:8b"})
        gate.open.clear()
        asked = asyncio.ensure_future(http.post("/api/generate", json=ask("llama3.1:8b")))
        await eventually(lambda: stuck.in_flight == 1)
        await http.post("/api/generate", json={"model": "llama3.1:8b", "keep_alive": 0})
        assert stuck.loaded == ["llama3.1:8b"]
        gate.open.set()
        assert (await asked).status_code == 200
        await eventually(lambda: stuck.loaded == [])


async def test_a_load_that_fails_is_500() -> None:
    """The text of a failed load reaches the client with status 500."""
    broken = model("llama3.1:8b", load_error="llama-server process has terminated: exit status 1")
    async with OllamaSimulator(models=[broken]) as simulator, async_client(simulator.url) as http:
        answer = await http.post("/api/generate", json=ask("llama3.1:8b"))
        assert (answer.status_code, answer.json()) == (500, {"error": broken.load_error})
        assert simulator.loaded == []


async def test_embedding_models_have_one_slot(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """num_parallel is forced to 1 for embedding models."""
    sim.num_parallel = 4
    await http.post("/api/embed", json={"model": "nomic-embed-text", "input": "x"})
    (runner,) = sim.scheduler.running()
    assert (runner.parallel, runner.num_ctx) == (1, 2048)


async def test_names_on_one_file_share_a_runner(http: httpx.AsyncClient, sim: OllamaSimulator) -> None:
    """A copy is warm when its source is, and `/api/ps` shows the name that loaded it."""
    sim.library.add(model("llama3.1:8b").variant("brief:latest", system="Be brief."))
    for name in ("llama3.1:8b", "brief", "llama3.1:8b"):
        await http.post("/api/generate", json=ask(name))
    assert (sim.loads, sim.loaded) == (1, ["llama3.1:8b"])


@pytest.mark.parametrize("changes", [{"parameters": {"num_ctx": 2048}}, {"adapters": ("a" * 64,)}])
async def test_variants_with_other_options_reload_in_turn(
    http: httpx.AsyncClient, sim: OllamaSimulator, changes: dict[str, Any]
) -> None:
    """One runner cannot serve two contexts or two adapters."""
    sim.library.add(model("llama3.1:8b").variant("other:latest", **changes))
    for name in ("llama3.1:8b", "other", "llama3.1:8b", "other"):
        await http.post("/api/generate", json=ask(name))
    assert (sim.loads, len(sim.loaded)) == (4, 1)


async def test_explicit_and_automatic_context_reload_each_other(http: httpx.AsyncClient, sim: OllamaSimulator) -> None:
    """A route that cannot say num_ctx reloads what another loaded with one, unless the numbers agree."""
    talk = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    for _ in range(2):
        await http.post("/api/chat", json={**talk, "options": {"num_ctx": 8192}})
        await http.post("/v1/chat/completions", json=talk)
    assert sim.loads == 4
    await http.post("/api/chat", json={**talk, "options": {"num_ctx": 32_768}})
    assert sim.loads == 4
