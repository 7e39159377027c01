"""anthropic-sdk-python: messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sdk.clients import Calls, open_calls
from support.stage import Stage

anthropic = pytest.importorskip("anthropic")

MODEL = "llama3.1:8b"
HI = [{"role": "user", "content": "say hi"}]
ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 9, "messages": HI}
SPOKEN = "word0 word1 word2"
WEATHER = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture(params=["api_key", "auth_token"])
def client(stage: Stage, flavour: str, request: pytest.FixtureRequest) -> Iterator[Calls]:
    """Alice's client; her token travels as `X-Api-Key` or as Bearer."""
    options = {"base_url": stage.url, request.param: stage.token, "max_retries": 0}
    with open_calls(flavour, anthropic.Anthropic, anthropic.AsyncAnthropic, **options) as calls:
        yield calls


def test_create(client: Calls) -> None:
    """Whole and streamed as events."""
    whole = client.call("messages.create", **ASK)
    assert (whole.content[0].text, whole.stop_reason, whole.usage.output_tokens) == (SPOKEN, "end_turn", 3)
    events = client.collect("messages.create", **ASK, stream=True)
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")


def test_stream(client: Calls) -> None:
    """The library's helper builds the message from the events."""
    assert client.final("messages.stream", "get_final_text", **ASK) == SPOKEN
    assert client.final("messages.stream", "get_final_message", **ASK).usage.output_tokens == 3


def test_beta(client: Calls) -> None:
    """The beta resource adds a query string; the route is the same."""
    assert client.call("beta.messages.create", **ASK).content[0].text == SPOKEN


def test_system_tools_images(client: Calls) -> None:
    """What a message can hold beside text."""
    assert client.call("messages.create", **ASK, system="Be brief.").content[0].text == SPOKEN
    asked = {**ASK, "messages": [{"role": "user", "content": "use the weather tool"}]}
    called = client.call("messages.create", **asked, tools=[WEATHER])
    assert (called.stop_reason, called.content[0].name) == ("tool_use", "weather")
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    seen = {**ASK, "model": "gemma3:12b", "messages": [{"role": "user", "content": [image]}]}
    assert client.call("messages.create", **seen).content[0].text == SPOKEN


def test_errors(client: Calls) -> None:
    """Each status is the library's own exception, streamed and whole."""
    missing = {**ASK, "model": "nope"}
    with pytest.raises(anthropic.NotFoundError, match="model 'nope' not found"):
        client.call("messages.create", **missing)
    with pytest.raises(anthropic.NotFoundError):
        client.final("messages.stream", "get_final_message", **missing)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.call("messages.create", **{**ASK, "max_tokens": 0})


def test_tokens_are_counted(client: Calls) -> None:
    """Ollama has no such route: the router estimates, or says that nobody has the model."""
    assert client.call("messages.count_tokens", model=MODEL, messages=HI).input_tokens > 0
    with pytest.raises(anthropic.NotFoundError, match="model 'nope' not found"):
        client.call("messages.count_tokens", model="nope", messages=HI)


def test_nobody_is_refused(stage: Stage, flavour: str) -> None:
    """A wrong key is an authentication error."""
    options = {"base_url": stage.url, "api_key": "wrong", "max_retries": 0}
    with (
        open_calls(flavour, anthropic.Anthropic, anthropic.AsyncAnthropic, **options) as nobody,
        pytest.raises(anthropic.AuthenticationError),
    ):
        nobody.call("messages.create", **ASK)
