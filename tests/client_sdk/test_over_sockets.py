"""The clients that people use, routed from inside the program to simulated servers over real sockets: no proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import anyio
import httpx
import httpx2
import ollama
import openai
import pytest

from ollama_router_core import AsyncRouterTransport, RouterTransport
from ollama_router_core.testing import SimulatorThread

langchain_ollama = pytest.importorskip("langchain_ollama", reason="installed by: nox -s client_sdk")
llama_index = pytest.importorskip("llama_index.llms.ollama", reason="installed by: nox -s client_sdk")

SMALL, LARGE = "llama3.2:1b", "llama3.1:8b"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture
def simulators() -> Iterator[list[SimulatorThread]]:
    """Two servers with a model each."""
    with (
        SimulatorThread(models=[SMALL], answer_tokens=6, time_scale=0.01) as one,
        SimulatorThread(models=[LARGE], answer_tokens=6, time_scale=0.01) as two,
    ):
        yield [one, two]


@pytest.fixture
def transport(simulators: list[SimulatorThread]) -> Iterator[RouterTransport]:
    """Routes over both."""
    with RouterTransport.from_urls([one.url for one in simulators]) as routing:
        yield routing


def _reached(simulators: list[SimulatorThread], path: str) -> list[int]:
    """How often each server was asked on a path."""
    return [len(one.simulator.requests_to(path)) for one in simulators]


def test_ollama(transport: RouterTransport, simulators: list[SimulatorThread]) -> None:
    """Chat whole and streamed, with tools, generate, embed, list, show: each where the model is."""
    client = ollama.Client(transport=transport)
    assert client.chat(SMALL, messages=MESSAGES).message.content
    assert "".join(part.message.content or "" for part in client.chat(LARGE, messages=MESSAGES, stream=True))
    assert client.chat(LARGE, messages=MESSAGES, tools=[WEATHER]).message is not None
    assert client.generate(SMALL, prompt="hi").response
    assert {one.model for one in client.list().models} == {SMALL, LARGE}
    assert client.show(LARGE).capabilities
    assert _reached(simulators, "/api/chat") == [1, 2]
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.chat("nobody:1b", messages=MESSAGES)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ollama_asynchronous(simulators: list[SimulatorThread], backend: str) -> None:
    """The same under asyncio and trio."""

    async def run() -> str:
        async with AsyncRouterTransport.from_urls([one.url for one in simulators]) as routing:
            client = ollama.AsyncClient(transport=routing)
            parts = [part.message.content async for part in await client.chat(LARGE, messages=MESSAGES, stream=True)]
        return "".join(part or "" for part in parts)

    assert anyio.run(run, backend=backend)


def test_openai(transport: RouterTransport, simulators: list[SimulatorThread]) -> None:
    """Completions whole and streamed, models, and its own error for a model that nobody has."""
    client = openai.OpenAI(api_key="-", http_client=httpx2.Client(transport=transport))
    answer = client.chat.completions.create(model=SMALL, messages=MESSAGES)
    assert answer.choices[0].message.content
    chunks = client.chat.completions.create(model=LARGE, messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert {model.id for model in client.models.list()} == {SMALL, LARGE}
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody:1b", messages=MESSAGES)
    assert _reached(simulators, "/v1/chat/completions") == [1, 1]


def test_openai_asynchronous(simulators: list[SimulatorThread]) -> None:
    """The asynchronous client over its own library's asynchronous client."""

    async def run() -> str:
        routing = AsyncRouterTransport.from_urls([one.url for one in simulators])
        async with openai.AsyncOpenAI(api_key="-", http_client=httpx2.AsyncClient(transport=routing)) as client:
            stream = await client.chat.completions.create(model=LARGE, messages=MESSAGES, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    assert anyio.run(run)


def test_anthropic(transport: RouterTransport, simulators: list[SimulatorThread]) -> None:
    """Messages whole and streamed."""
    client = anthropic.Anthropic(api_key="-", http_client=httpx2.Client(transport=transport))
    assert client.messages.create(model=SMALL, messages=MESSAGES, max_tokens=32).content
    with client.messages.stream(model=LARGE, messages=MESSAGES, max_tokens=32) as stream:
        assert stream.get_final_text()
    assert _reached(simulators, "/v1/messages") == [1, 1]


def test_langchain(transport: RouterTransport, simulators: list[SimulatorThread]) -> None:
    """LangChain's chat class: invoked, streamed, awaited."""
    routing = AsyncRouterTransport.from_urls([one.url for one in simulators])
    chat = langchain_ollama.ChatOllama(
        model=LARGE,
        sync_client_kwargs={"transport": transport},
        async_client_kwargs={"transport": routing},
    )
    assert chat.invoke("hi").content
    assert "".join(str(chunk.content) for chunk in chat.stream("hi"))

    async def run() -> str:
        async with routing:
            return str((await chat.ainvoke("hi")).content)

    assert anyio.run(run)
    assert _reached(simulators, "/api/chat") == [0, 3]


def test_llamaindex(transport: RouterTransport, simulators: list[SimulatorThread]) -> None:
    """LlamaIndex's Ollama class takes a client that routes."""
    model = llama_index.Ollama(model=LARGE, client=ollama.Client(transport=transport), context_window=4096)
    assert str(model.complete("hi"))
    assert "".join(part.delta or "" for part in model.stream_complete("hi"))
    assert sum(_reached(simulators, "/api/chat")) + sum(_reached(simulators, "/api/generate")) == 2


def test_httpx(transport: RouterTransport) -> None:
    """A plain client, one line."""
    with httpx.Client(transport=transport, base_url="http://router") as client:
        answer = client.post("/api/generate", json={"model": SMALL, "prompt": "hi", "stream": False})
    assert answer.json()["response"]
