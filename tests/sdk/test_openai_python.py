"""openai-python: every resource that Ollama serves."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from sdk.clients import Calls, open_calls
from support.stage import Stage

openai = pytest.importorskip("openai")

MODEL = "llama3.1:8b"
HI = [{"role": "user", "content": "say hi"}]
SPOKEN = "word0 word1 word2"
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def _open(stage: Stage, flavour: str, token: str) -> Iterator[Calls]:
    options = {"base_url": f"{stage.url}/v1", "api_key": token, "max_retries": 0}
    with open_calls(flavour, openai.OpenAI, openai.AsyncOpenAI, **options) as calls:
        yield calls


@pytest.fixture
def client(stage: Stage, flavour: str) -> Iterator[Calls]:
    """The user alice's client."""
    yield from _open(stage, flavour, stage.token)


def test_chat_completions(client: Calls) -> None:
    """Whole and streamed, usage included when asked for."""
    whole = client.call("chat.completions.create", model=MODEL, messages=HI)
    assert (whole.choices[0].message.content, whole.usage.completion_tokens) == (SPOKEN, 3)
    usage = {"include_usage": True}
    pieces = client.collect("chat.completions.create", model=MODEL, messages=HI, stream=True, stream_options=usage)
    assert "".join(one.choices[0].delta.content or "" for one in pieces if one.choices) == SPOKEN
    assert pieces[-1].usage.completion_tokens == 3


def test_chat_completions_with_tools_images_and_formats(client: Calls) -> None:
    """What a chat can ask for beside text."""
    asked = [{"role": "user", "content": "use the weather tool"}]
    called = client.call("chat.completions.create", model=MODEL, messages=asked, tools=[WEATHER])
    assert called.choices[0].message.tool_calls[0].function.name == "weather"
    assert called.choices[0].finish_reason == "tool_calls"
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    seen = [{"role": "user", "content": [picture, {"type": "text", "text": "what is this"}]}]
    seeing = client.call("chat.completions.create", model="gemma3:12b", messages=seen)
    assert seeing.choices[0].message.content == SPOKEN
    schema = {"name": "age", "schema": {"type": "object", "properties": {"age": {"type": "integer"}}}}
    wanted = {"type": "json_schema", "json_schema": schema}
    formed = client.call("chat.completions.create", model=MODEL, messages=HI, response_format=wanted)
    assert formed.choices[0].message.content == '{"age": 1}'


def test_completions(client: Calls) -> None:
    """Whole and streamed."""
    assert client.call("completions.create", model=MODEL, prompt="hi").choices[0].text == SPOKEN
    pieces = client.collect("completions.create", model=MODEL, prompt="hi", stream=True)
    assert "".join(one.choices[0].text for one in pieces) == SPOKEN


def test_embeddings(client: Calls) -> None:
    """The library asks for base64 by itself, for floats when told to."""
    for options in ({}, {"encoding_format": "float"}):
        answer = client.call("embeddings.create", model="nomic-embed-text", input=["x", "y"], **options)
        assert [len(one.embedding) for one in answer.data] == [768, 768]


def test_models(client: Calls) -> None:
    """Listed and retrieved, also by a name that has to be escaped in a path."""
    assert MODEL in {one.id for one in client.collect("models.list")}
    assert client.call("models.retrieve", MODEL).id == MODEL
    assert client.call("models.retrieve", "nomic-embed-text").owned_by == "library"
    with pytest.raises(openai.NotFoundError):
        client.call("models.retrieve", "nope")


def test_responses(client: Calls) -> None:
    """Whole, streamed as events, and streamed by the library's helper."""
    assert client.call("responses.create", model=MODEL, input="hi").output_text == SPOKEN
    events = client.collect("responses.create", model=MODEL, input="hi", stream=True)
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert client.final("responses.stream", "get_final_response", model=MODEL, input="hi").output_text == SPOKEN


def test_transcriptions(client: Calls) -> None:
    """A multipart form with a file, answered as an object and as text."""

    def sound() -> tuple[str, io.BytesIO]:
        return ("a.wav", io.BytesIO(b"RIFF" * 10_000))

    options = {"model": "listener:8b"}
    assert client.call("audio.transcriptions.create", file=sound(), **options).text == SPOKEN
    text = client.call("audio.transcriptions.create", file=sound(), response_format="text", **options)
    assert text.strip() == SPOKEN


@pytest.mark.parametrize("stream", [False, True])
def test_errors(client: Calls, stream: bool) -> None:
    """Each status is the library's own exception, the text is Ollama's."""
    ask = client.collect if stream else client.call
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        ask("chat.completions.create", model="nope", messages=HI, stream=stream)
    with pytest.raises(openai.BadRequestError, match="too short"):
        ask("chat.completions.create", model=MODEL, messages=[], stream=stream)


def test_nobody_is_refused(stage: Stage, flavour: str) -> None:
    """A wrong key is an authentication error."""
    options = {"base_url": f"{stage.url}/v1", "api_key": "wrong", "max_retries": 0}
    with (
        open_calls(flavour, openai.OpenAI, openai.AsyncOpenAI, **options) as nobody,
        pytest.raises(openai.AuthenticationError),
    ):
        nobody.call("models.list")
