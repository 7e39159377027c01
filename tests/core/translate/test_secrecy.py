"""What people and models say stays out of whatever may be logged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.translate import translate_request
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.conversation import File, Image, ImageUrl, Text, Thinking, ToolCall
from ollama_router_core.translate.embeddings import EmbeddingRequest
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT
from ollama_router_core.translate.openai.codec import OPENAI_CHAT
from ollama_router_core.translate.replies import Failed, TextDelta, ThinkingDelta, ToolCallDelta
from support.conversations import conversation_of

CANARY = "canary-4711"


@pytest.mark.parametrize(
    "value",
    [
        Text(CANARY),
        Image("image/png", CANARY),
        ImageUrl(CANARY),
        File("a/b", CANARY, CANARY),
        Thinking(CANARY, CANARY),
        ToolCall("a", "f", CANARY),
        TextDelta(CANARY),
        ThinkingDelta(CANARY),
        ToolCallDelta(0, arguments=CANARY),
        EmbeddingRequest(inputs=(CANARY,)),
        Failed(ApiError(message=CANARY, status=502, code=CANARY)),
    ],
)
def test_no_repr_shows_what_was_said(value) -> None:
    """A value in a traceback tells its type and nothing else."""
    assert CANARY not in repr(value)


def test_no_repr_of_a_request_shows_what_was_said() -> None:
    """Neither the conversation nor the translated request."""
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": CANARY}],
        "tools": [{"type": "function", "function": {"name": "f", "description": CANARY, "parameters": {"x": CANARY}}}],
        "format": {"title": CANARY},
        "options": {"stop": [CANARY]},
    }
    sent = translate_request(body, source=OLLAMA_CHAT, target=OPENAI_CHAT, model="m")
    assert json.loads(sent.body)["messages"][0]["content"] == CANARY
    assert CANARY not in repr(sent)
    assert CANARY not in repr(conversation_of(body, OLLAMA_CHAT))
