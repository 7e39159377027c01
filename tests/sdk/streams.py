"""What the official clients read of a stream, with the head that it came with."""

from __future__ import annotations

from typing import Any

import pytest

from sdk.clients import open_calls
from support.stage import Stage

__all__ = ["HI", "MODEL", "SPOKEN", "anthropic_helper", "anthropic_messages", "openai_chat", "openai_responses"]

MODEL = "llama3.1:8b"
HI = [{"role": "user", "content": "say hi"}]
SPOKEN = "word0 word1 word2"

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")


def openai_chat(stage: Stage) -> tuple[Any, str]:
    """The head and the text of `/v1/chat/completions`."""
    with openai.OpenAI(base_url=f"{stage.url}/v1", api_key=stage.token, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, stream=True)
        chunks = list(raw.parse())
    return raw.headers, "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def openai_responses(stage: Stage) -> tuple[Any, tuple[str, str]]:
    """The head and the first and the last event of `/v1/responses`."""
    with openai.OpenAI(base_url=f"{stage.url}/v1", api_key=stage.token, max_retries=0) as client:
        raw = client.responses.with_raw_response.create(model=MODEL, input="say hi", stream=True)
        events = list(raw.parse())
    return raw.headers, (events[0].type, events[-1].type)


def anthropic_messages(stage: Stage) -> tuple[Any, tuple[str, str]]:
    """The head and the first and the last event of `/v1/messages`."""
    with anthropic.Anthropic(base_url=stage.url, api_key=stage.token, max_retries=0) as client:
        raw = client.messages.with_raw_response.create(model=MODEL, max_tokens=9, messages=HI, stream=True)
        events = list(raw.parse())
    return raw.headers, (events[0].type, events[-1].type)


def anthropic_helper(stage: Stage, flavour: str) -> str:
    """The text of the helper that builds a message from events."""
    options = {"base_url": stage.url, "api_key": stage.token, "max_retries": 0}
    with open_calls(flavour, anthropic.Anthropic, anthropic.AsyncAnthropic, **options) as client:
        return str(client.final("messages.stream", "get_final_text", model=MODEL, max_tokens=9, messages=HI))
