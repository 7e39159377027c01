"""What hosts say when they refuse a member of a request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.translate.refused_members import refused_member

SENT = {"model", "messages", "temperature", "top_k", "seed", "presence_penalty", "logprobs", "tools", "metadata"}


def _openai(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _anthropic(message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


VLLM = "[{'type': 'extra_forbidden', 'loc': ('body', 'top_k'), 'msg': 'Extra inputs are not permitted', 'input': 5}]"


@pytest.mark.parametrize(
    ("status", "body", "member"),
    [
        (400, _openai("Unsupported parameter: 'temperature' is not supported with this model.", "temperature",
                      "unsupported_parameter"), "temperature"),
        (400, _openai("Unsupported value: 'temperature' does not support 0.7 with this model.", "temperature",
                      "unsupported_value"), "temperature"),
        (400, _openai("Unrecognized request argument supplied: seed"), "seed"),
        (400, _openai("Unknown parameter: 'metadata'.", "metadata", "unknown_parameter"), "metadata"),
        (400, _anthropic("`temperature` is deprecated for this model."), "temperature"),
        (400, _anthropic("top_k: Extra inputs are not permitted"), "top_k"),
        (400, _anthropic("metadata.person: Extra inputs are not permitted"), "metadata"),
        (422, {"object": "error", "message": {"detail": [
            {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}}, "seed"),
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "logprobs"], "msg": "Extra"}]}, "logprobs"),
        (400, {"object": "error", "message": VLLM, "type": "BadRequestError", "code": 400}, "top_k"),
        (400, {"error": {"message": VLLM, "type": "Bad Request", "code": 400}}, "top_k"),
        (400, [{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message":
                          'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}}], "seed"),
        (400, {"code": "invalid-argument", "error": "Model grok-4 does not support parameter presencePenalty."},
         "presence_penalty"),
        (400, _openai("property 'logprobs' is unsupported"), "logprobs"),
        (400, _openai("litellm.UnsupportedParamsError: x does not support parameters: ['top_k']"), "top_k"),
        (400, {"error": "seed is not supported"}, "seed"),
    ],
)  # fmt: skip
def test_the_member_that_is_refused(status: int, body: Any, member: str) -> None:
    """In the words of OpenAI, Azure, Anthropic, Mistral, vLLM, Gemini, xAI, Groq and LiteLLM."""
    assert refused_member(status, json.dumps(body).encode(), SENT) == member


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, _openai("Unsupported parameter: 'stop' is not supported with this model.", "stop")),
        (400, _openai("This model's maximum context length is 8192 tokens.", "messages", "context_length_exceeded")),
        (400, _openai("Invalid value for 'temperature': expected a number.", "temperature", "invalid_type")),
        (400, _openai("tools is not supported by this model", "tools")),
        (400, _anthropic("messages.0.content: Extra inputs are not permitted")),
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "messages", 0, "name"], "msg": "Extra"}]}),
        (403, _openai("temperature is not supported", "temperature")),
        (400, {}),
        (400, "temperature is not supported"),
    ],
)
def test_errors_that_are_about_something_else(status: int, body: Any) -> None:
    """What was not sent, what a request cannot do without, a wrong value, another status."""
    assert refused_member(status, json.dumps(body).encode(), SENT) is None


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda each: json.dumps(each).encode())
)
def test_no_body_is_too_odd(body: bytes) -> None:
    """A host may answer anything."""
    assert refused_member(400, body, SENT) in {None, *SENT}
