"""The three ways to run the simulator, and its facts about models."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import httpx
import pytest

import ollama_router_core.testing as public
from ollama_router_core.testing import OllamaSimulator, SimulatedModel, SimulatorThread, known_models, model


def test_in_a_thread() -> None:
    """Synchronous callers use it as a context manager; faults, pause and resume work from their thread."""
    with (
        SimulatorThread(models=["qwen3:8b"]) as thread,
        httpx.Client(base_url=thread.url, trust_env=False) as http,
    ):
        assert http.get("/api/tags").json()["models"][0]["name"] == "qwen3:8b"
        thread.simulator.misbehave(public.Answer(status=503), times=1)
        assert [http.get("/").status_code for _ in range(2)] == [503, 200]
        thread.pause()
        with pytest.raises(httpx.ConnectError):
            httpx.get(thread.url, trust_env=False)
        thread.resume()
        assert httpx.get(thread.url, trust_env=False).status_code == 200
        assert thread.call(lambda one: one.connections) >= 2


def test_a_thread_whose_port_is_taken_says_so() -> None:
    """The error of the listening socket reaches the caller."""
    with SimulatorThread(models=[]) as first, pytest.raises(OSError, match="address"):
        SimulatorThread(models=[], port=first.port).start()


def test_stopping_ends_what_is_running() -> None:
    """Leaving the block closes connections in the middle of an answer."""
    with SimulatorThread(answer_tokens=10**9) as thread, httpx.Client(trust_env=False) as http:
        body = {"model": "llama3.1:8b", "prompt": "x"}
        with http.stream("POST", f"{thread.url}/api/generate", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            thread.stop()
            with pytest.raises(httpx.TransportError):
                list(lines)


def test_as_a_program() -> None:
    """`python -m ollama_router_core.testing` prints where it listens and stops on SIGTERM."""
    command = [sys.executable, "-m", "ollama_router_core.testing", "--port", "0", "--models", "mistral:7b"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line.startswith("listening on http://127.0.0.1:")
            tags = httpx.get(line.split()[-1] + "/api/tags", trust_env=False).json()
            assert [one["name"] for one in tags["models"]] == ["mistral:7b"]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.anyio
async def test_options_may_change_while_it_runs(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """Version, answer length and the rest are read when they are needed."""
    sim.version, sim.answer_tokens = "0.40.0", 2
    assert (await http.get("/api/version")).json() == {"version": "0.40.0"}
    ask = {"model": "llama3.1:8b", "prompt": "x", "stream": False}
    assert (await http.post("/api/generate", json=ask)).json()["response"] == "word0 word1"


@pytest.mark.anyio
async def test_only_so_many_requests_are_kept(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """A server that runs for long forgets its oldest records."""
    sim.keep_requests = 2
    for path in ("/api/tags", "/api/ps", "/api/version"):
        await http.get(path)
    assert [one.path for one in sim.requests] == ["/api/ps", "/api/version"]


@pytest.mark.anyio
async def test_nothing_is_left_running() -> None:
    """After stop there is no task and no connection of the simulator."""
    before = asyncio.all_tasks()
    async with OllamaSimulator() as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"running")
        assert simulator.open_connections == 1
    assert asyncio.all_tasks() == before
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def test_well_known_models_have_real_facts() -> None:
    """Size, shape and quantisation of the models people know; a name alone means `latest`."""
    llama = model("llama3.1:8b")
    assert (llama.size, llama.block_count, llama.head_count_kv) == (4_920_753_328, 32, 8)
    assert model("llama3.1").size == llama.size
    assert model("llama3.1:8b").digest == llama.digest != model("llama3.3:70b").digest
    assert "embedding" in model("nomic-embed-text").capabilities
    assert all(model(name).parameter_count > 10**6 for name in known_models())


def test_unknown_models_are_guessed_from_their_name() -> None:
    """A size in the tag gives the weights; single facts can be set."""
    assert model("falcon:40b").size == 24_000_000_000
    assert model("falcon:40b", size=5, capabilities=("completion",)).size == 5
    with pytest.raises(ValueError, match="not a model name"):
        model("a b")
    with pytest.raises(ValueError, match="not a model name"):
        SimulatedModel(name="", size=1)


def test_public_names_exist() -> None:
    """`__all__` is sorted and complete."""
    assert public.__all__ == sorted(public.__all__)
    assert all(hasattr(public, name) for name in public.__all__)
