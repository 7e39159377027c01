"""How users test programs that route from inside: what docs/how-to/route-inside-a-program.md shows, run."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import httpx2
import ollama
import openai
import pytest
import respx

from ollama_router_core import AsyncRouterTransport, RouterTransport
from ollama_router_core.config import Config, Server
from ollama_router_core.testing import FakeFleet

MESSAGES: Any = [{"role": "user", "content": "hi"}]


def test_a_fake_fleet_in_three_lines() -> None:
    """No socket: servers, a client, an assertion."""
    fleet = FakeFleet({"big": ["llama3.3:70b"], "small": ["llama3.2:1b"]})
    client = ollama.Client(transport=RouterTransport(fleet.config, inner=fleet))
    assert client.chat("llama3.3:70b", messages=MESSAGES).message.content == fleet.answer
    assert fleet.requests[0].server == "big"
    assert [model.model for model in client.list().models] == ["llama3.3:70b", "llama3.2:1b"]


@pytest.mark.anyio
async def test_a_fake_fleet_streams_to_an_asynchronous_client() -> None:
    """The same fleet serves asynchronous clients; each word is a chunk."""
    fleet = FakeFleet({"big": ["llama3.3:70b"]}, answer="one two three")
    client = ollama.AsyncClient(transport=AsyncRouterTransport(fleet.config, inner=fleet))
    chunks = [part.message.content async for part in await client.chat("llama3.3:70b", messages=MESSAGES, stream=True)]
    assert chunks == ["one", " two", " three", ""]


def test_a_fake_fleet_speaks_every_dialect() -> None:
    """OpenAI's and Anthropic's clients, streamed and whole, over httpx2."""
    fleet = FakeFleet({"big": ["llama3.3:70b"]})
    http = httpx2.Client(transport=RouterTransport(fleet.config, inner=fleet))
    speaking = openai.OpenAI(api_key="-", http_client=http)
    chunks = list(speaking.chat.completions.create(model="llama3.3:70b", messages=MESSAGES, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == fleet.answer
    other = anthropic.Anthropic(api_key="-", http_client=http)
    message = other.messages.create(model="llama3.3:70b", messages=MESSAGES, max_tokens=9)
    assert message.content[0].text == fleet.answer  # type: ignore[union-attr]


def test_a_server_that_is_down() -> None:
    """A fleet's servers refuse connections on command."""
    fleet = FakeFleet({"big": ["llama3.3:70b"], "spare": ["llama3.3:70b"]})
    fleet.down.add("big")
    client = ollama.Client(transport=RouterTransport(fleet.config, inner=fleet))
    client.chat("llama3.3:70b", messages=MESSAGES)
    assert fleet.requests[0].server == "spare"


def test_with_mock_transport() -> None:
    """A handler of one's own: questions about the fleet reach it too, and a server has to answer as an Ollama does."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/chat":
            asked = json.loads(request.content)["model"]
            return httpx.Response(200, json={"model": asked, "message": {"role": "assistant", "content": "mocked"}})
        facts = {"/api/version": {"version": "0.32.0"}, "/api/tags": {"models": [{"name": "anything"}]}}
        found = facts.get(request.url.path)
        return httpx.Response(404) if found is None else httpx.Response(200, json=found)

    config = Config(servers={"big": Server(host="big")})
    client = ollama.Client(transport=RouterTransport(config, inner=httpx.MockTransport(handler)))
    assert client.chat("anything", messages=MESSAGES).message.content == "mocked"


def test_with_respx() -> None:
    """What the router sends, respx catches: a server's routes are mocked under its own address."""
    tags = {"models": [{"name": "llama3.3:70b", "size": 1, "digest": "d"}]}
    with respx.mock(assert_all_called=False) as mock:
        mock.get("http://big:11434/api/version").respond(json={"version": "0.32.0"})
        mock.get("http://big:11434/api/tags").respond(json=tags)
        mock.get("http://big:11434/api/ps").respond(json={"models": []})
        mock.post("http://big:11434/api/show").respond(json={})
        chat = mock.post("http://big:11434/api/chat")
        chat.respond(json={"model": "llama3.3:70b", "message": {"role": "assistant", "content": "mocked"}})
        with RouterTransport.from_urls(["http://big:11434"]) as transport:
            client = ollama.Client(transport=transport)
            assert client.chat("llama3.3:70b", messages=MESSAGES).message.content == "mocked"
    assert chat.call_count == 1
