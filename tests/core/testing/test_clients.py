"""The official client libraries understand the simulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ollama_router_core.testing import SimulatorThread

pytestmark = pytest.mark.slow  # importing the clients takes most of the time

HI = [{"role": "user", "content": "say hi"}]
SPOKEN = "word0 word1 word2"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server in a thread."""
    with SimulatorThread(models=["llama3.1:8b", "nomic-embed-text"], answer_tokens=3) as simulator:
        yield simulator.url


def test_ollama(url: str) -> None:
    """ollama-python: chat streamed and whole, embed, ps, show, list, errors."""
    ollama = pytest.importorskip("ollama")
    client = ollama.Client(host=url, trust_env=False)
    stream = client.chat(model="llama3.1:8b", messages=HI, stream=True)
    assert "".join(one.message.content for one in stream) == SPOKEN
    whole = client.generate(model="llama3.1:8b", prompt="hi")
    assert (whole.response, whole.eval_count) == (SPOKEN, 3)
    assert len(client.embed(model="nomic-embed-text", input="x").embeddings[0]) == 768
    assert {one.model for one in client.ps().models} == {"llama3.1:8b", "nomic-embed-text:latest"}
    assert client.show("llama3.1:8b").modelinfo["llama.block_count"] == 32
    assert len(client.list().models) == 2
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found"):
        client.chat(model="nope", messages=HI)
    client._client.close()


def test_openai(url: str) -> None:
    """openai-python: chat streamed and whole, responses, embeddings, models, errors."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        whole = client.chat.completions.create(model="llama3.1:8b", messages=HI)
        assert (whole.choices[0].message.content, whole.usage.completion_tokens) == (SPOKEN, 3)
        stream = client.chat.completions.create(model="llama3.1:8b", messages=HI, stream=True)
        assert "".join(one.choices[0].delta.content or "" for one in stream) == SPOKEN
        assert client.responses.create(model="llama3.1:8b", input="hi").output_text == SPOKEN
        with client.responses.stream(model="llama3.1:8b", input="hi") as events:
            assert events.get_final_response().output_text == SPOKEN
        vectors = client.embeddings.create(model="nomic-embed-text", input="x")
        assert len(vectors.data[0].embedding) == 768
        assert [one.id for one in client.models.list()] == ["llama3.1:8b", "nomic-embed-text:latest"]
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nope", messages=HI)


def test_anthropic(url: str) -> None:
    """anthropic-sdk-python: a message streamed and whole, errors."""
    anthropic = pytest.importorskip("anthropic")
    with anthropic.Anthropic(base_url=url, api_key="x", max_retries=0) as client:
        whole = client.messages.create(model="llama3.1:8b", max_tokens=9, messages=HI)
        assert (whole.content[0].text, whole.stop_reason) == (SPOKEN, "end_turn")
        with client.messages.stream(model="llama3.1:8b", max_tokens=9, messages=HI) as stream:
            assert stream.get_final_text() == SPOKEN
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="nope", max_tokens=9, messages=HI)
