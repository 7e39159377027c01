"""The official clients on models of a host that speaks another API than they do; the host is a simulated server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ollama_router_core.testing import SimulatorThread
from sdk.clients import Calls, open_calls
from support.stage import Stage, run_stage

anthropic = pytest.importorskip("anthropic")
ollama = pytest.importorskip("ollama")
openai = pytest.importorskip("openai")

MODEL = "llama3.1:8b"
HI: Any = [{"role": "user", "content": "say hi"}]
SPOKEN = "word0 word1 word2"
APIS = ("openai", "openai_responses", "anthropic")


@pytest.fixture(scope="module")
def translated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A router with one host under each API it can have; the model there is called after the API."""
    with SimulatorThread(models=[MODEL], answer_tokens=3) as host:
        lines = ["external_hosts:"]
        for api in APIS:
            place = f"host: 127.0.0.1, port: {host.port}, protocol: http, api: {api}, models: {{via-{api}: '{MODEL}'}}"
            lines.append(f"  at-{api}: {{{place}}}")
        assigned = ", ".join(f"via-{api}: at-{api}" for api in APIS)
        lines.append(f"model_config: {{explicit_assignments: {{{assigned}}}}}")
        home = tmp_path_factory.mktemp("translated")
        with run_stage(home, {"one": [MODEL]}, settings="\n".join(lines) + "\n", answer_tokens=3) as stage:
            yield stage


@pytest.fixture
def openai_client(translated: Stage, flavour: str) -> Iterator[Calls]:
    """OpenAI's client."""
    options = {"base_url": f"{translated.url}/v1", "api_key": translated.token, "max_retries": 0}
    with open_calls(flavour, openai.OpenAI, openai.AsyncOpenAI, **options) as calls:
        yield calls


@pytest.mark.parametrize("api", APIS)
def test_responses_on_every_host(openai_client: Calls, api: str) -> None:
    """Whole, as events, and put together by the library's helper."""
    asked = {"model": f"via-{api}", "input": "hi"}
    assert openai_client.call("responses.create", **asked).output_text == SPOKEN
    events = openai_client.collect("responses.create", stream=True, **asked)
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert openai_client.final("responses.stream", "get_final_response", **asked).output_text == SPOKEN


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_responses_need_no_stored_state(openai_client: Calls, api: str) -> None:
    """A host whose route is another one gets no request that needs an answer the router would have to keep."""
    with pytest.raises(openai.BadRequestError, match="stored"):
        openai_client.call("responses.create", model=f"via-{api}", input="hi", previous_response_id="resp_1")


@pytest.mark.parametrize("api", APIS)
def test_chat_completions_on_every_host(openai_client: Calls, api: str) -> None:
    """Whole and streamed, with the usage."""
    asked = {"model": f"via-{api}", "messages": HI}
    whole = openai_client.call("chat.completions.create", **asked)
    assert (whole.choices[0].message.content, whole.usage.completion_tokens) == (SPOKEN, 3)
    pieces = openai_client.collect("chat.completions.create", stream=True, **asked)
    assert "".join(one.choices[0].delta.content or "" for one in pieces if one.choices) == SPOKEN


@pytest.mark.parametrize("api", APIS)
def test_messages_on_every_host(translated: Stage, flavour: str, api: str) -> None:
    """Whole, and put together by the library's helper."""
    options = {"base_url": translated.url, "api_key": translated.token, "max_retries": 0}
    asked = {"model": f"via-{api}", "max_tokens": 16, "messages": HI}
    with open_calls(flavour, anthropic.Anthropic, anthropic.AsyncAnthropic, **options) as client:
        assert client.call("messages.create", **asked).content[0].text == SPOKEN
        assert client.final("messages.stream", "get_final_text", **asked) == SPOKEN


@pytest.mark.parametrize("api", APIS)
def test_ollama_chats_on_every_host(translated: Stage, flavour: str, api: str) -> None:
    """Whole and streamed."""
    options = {"host": translated.url, "headers": {"Authorization": f"Bearer {translated.token}"}}
    asked = {"model": f"via-{api}", "messages": HI}
    with open_calls(flavour, ollama.Client, ollama.AsyncClient, **options) as client:
        assert client.call("chat", **asked).message.content == SPOKEN
        assert "".join(one.message.content for one in client.collect("chat", stream=True, **asked)) == SPOKEN
