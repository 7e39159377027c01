"""Nothing that a provider refuses is sent to it, whatever the client's dialect; what was changed is said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.refusals import REFUSALS
from support.refusing_host import RefusingHost, refusing_host
from support.router import RunningRouter, running_router

pytestmark = pytest.mark.anyio

OPENAI, ANTHROPIC, OLLAMA, RESPONSES = "/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/responses"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CLAUDE_TOOL = {"name": "weather", "input_schema": SCHEMA}
USER = {"role": "user", "content": "hello"}
CALL = {"id": "call_12345678", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
CALLED = [
    USER,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_12345678", "content": "sunny"},
]
CLAUDE_CALLED = [
    USER,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "call_12345678", "name": "weather", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_12345678", "content": "sunny"}]},
]
SAMPLING = {"temperature": 0.5, "top_p": 0.5}


@asynccontextmanager
async def _stage(
    folder: Path, profile: str, model: str, **settings: Any
) -> AsyncIterator[tuple[RunningRouter, RefusingHost]]:
    """A router with a host that refuses as the provider of the profile does."""
    async with refusing_host(REFUSALS.get(profile, lambda _: None)) as host:
        paid = {
            "host": "127.0.0.1",
            "port": host.port,
            "protocol": "http",
            "api": "anthropic" if profile == "anthropic" else "openai",
            "profile": profile,
            **settings,
        }
        async with running_router(
            folder,
            {},
            external_hosts={"paid": paid},
            model_config={"explicit_assignments": {model: "paid"}},
        ) as router:
            yield router, host


def _entry(host: RefusingHost, profile: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": host.port, "protocol": "http", "api": "openai", "profile": profile}


_ASSIGNED = {"explicit_assignments": {"gpt-5": "paid"}}


def _ids(value: Any) -> str | None:
    return value if isinstance(value, str) else None


@pytest.mark.parametrize(
    ("profile", "model", "path", "body", "said"),
    [
        # gpt-5 and later take no temperature and no top_p
        ("openai", "gpt-5", OPENAI, SAMPLING, "temperature, top_p"),
        ("openai", "gpt-5.2-2026-01-01", OPENAI, {**SAMPLING, "max_tokens": 9}, "max_tokens->max_completion_tokens"),
        ("openai", "gpt-6-sol", ANTHROPIC, {**SAMPLING, "max_tokens": 9}, "temperature, top_p"),
        ("openai", "gpt-5-mini", OLLAMA, {"options": {**SAMPLING, "num_predict": 9}}, "temperature, top_p"),
        ("openai", "o3-mini", OPENAI, {"presence_penalty": 1.0, "max_tokens": 9}, "presence_penalty"),
        ("openai", "gpt-5", RESPONSES, {"input": "hello", **SAMPLING}, "temperature, top_p"),
        ("azure", "gpt-5", OPENAI, {**SAMPLING, "max_tokens": 9}, "temperature, top_p"),
        # tools with effort on gpt-5.4 to 5.6
        ("openai", "gpt-5.4", OPENAI, {"tools": [TOOL], "reasoning_effort": "high"}, "reasoning_effort"),
        ("openai", "gpt-5.5", OLLAMA, {"tools": [TOOL], "think": True}, None),
        ("openai", "gpt-6-sol", OPENAI, {"tools": [TOOL]}, "reasoning_effort=none"),
        ("openai", "gpt-5.6-terra", OPENAI, {"tools": [TOOL]}, "reasoning_effort=none"),
        ("openai", "gpt-5.6", OPENAI, {"tools": [TOOL], "reasoning_effort": "low"}, "reasoning_effort=none"),
        ("openai", "gpt-5.6", ANTHROPIC, {"tools": [CLAUDE_TOOL], "max_tokens": 9}, "max_output_tokens=16"),
        # gpt-4o refuses reasoning_effort
        ("openai", "gpt-4o", OPENAI, {"reasoning_effort": "low"}, "reasoning_effort"),
        ("openai", "gpt-4o-mini", OLLAMA, {"think": "high"}, "think"),
        ("openai", "gpt-4.1", ANTHROPIC,
         {"max_tokens": 9999, "thinking": {"type": "enabled", "budget_tokens": 2000}}, "think"),
        ("openai", "gpt-4o", RESPONSES, {"input": "hello", "reasoning": {"effort": "low"}}, "reasoning"),
        ("openai", "gpt-4.1-mini", RESPONSES,
         {"input": "hello", "include": ["reasoning.encrypted_content"]}, "include"),
        # efforts that a model does not know
        ("openai", "gpt-5-pro", RESPONSES, {"input": "hello", "reasoning": {"effort": "low"}}, "reasoning.effort=high"),
        ("openai", "gpt-5.6", OPENAI, {"reasoning_effort": "minimal"}, "reasoning_effort=low"),
        ("openai", "gpt-5.2", RESPONSES, {"input": "hello", "reasoning": {"effort": "max"}}, "reasoning.effort=xhigh"),
        # Claude 4.1 and later refuse temperature with top_p
        ("anthropic", "claude-opus-4-1-20250805", ANTHROPIC, {**SAMPLING, "max_tokens": 9}, "top_p"),
        ("anthropic", "claude-sonnet-4-5", OPENAI, SAMPLING, "top_p"),
        ("anthropic", "claude-haiku-4-5-20251001", OLLAMA, {"options": SAMPLING}, "top_p"),
        # Opus 4.7 and later refuse thinking.enabled and sampling
        ("anthropic", "claude-opus-4-7", ANTHROPIC, {**SAMPLING, "top_k": 5, "max_tokens": 9}, "temperature, top_k"),
        ("anthropic", "claude-opus-4-8", ANTHROPIC,
         {"max_tokens": 9999, "thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.type=adaptive"),
        ("anthropic", "claude-opus-5", OPENAI, {**SAMPLING, "reasoning_effort": "high"}, "temperature"),
        ("anthropic", "claude-opus-4-7", OLLAMA, {"think": "low", "options": SAMPLING}, "temperature"),
        # thinking needs top_p >= 0.95 and temperature 1
        ("anthropic", "claude-opus-4-20250514", ANTHROPIC,
         {**SAMPLING, "max_tokens": 9999, "thinking": {"type": "enabled", "budget_tokens": 2000}},
         "top_p=0.95, temperature=1"),
        ("anthropic", "claude-sonnet-4-20250514", OPENAI, {**SAMPLING, "reasoning_effort": "high"}, "top_p=0.95"),
        # the last message may not be the assistant's since 4.6
        ("anthropic", "claude-sonnet-4-6", ANTHROPIC,
         {"max_tokens": 9, "messages": [USER, {"role": "assistant", "content": "I say"}]}, "messages.prefill"),
        ("anthropic", "claude-opus-4-6", OPENAI,
         {"messages": [USER, {"role": "assistant", "content": "I say"}]}, "messages.prefill"),
        # a system message later on
        ("anthropic", "claude-opus-4-5", ANTHROPIC,
         {"max_tokens": 9, "messages": [USER, {"role": "system", "content": "be brief"}]}, "messages.role=user"),
        # Gemini 3 wants its thought_signature back
        ("gemini", "gemini-3-pro-preview", OPENAI, {"messages": CALLED, "tools": [TOOL]}, None),
        ("gemini", "gemini-3-flash", ANTHROPIC,
         {"messages": CLAUDE_CALLED, "tools": [CLAUDE_TOOL], "max_tokens": 9}, None),
        ("gemini", "gemini-2.5-flash", OPENAI, {"frequency_penalty": 1.0, "seed": 3}, "frequency_penalty"),
        # DeepSeek wants reasoning_content back after a call
        ("deepseek", "deepseek-v4-pro", OPENAI, {"messages": CALLED, "tools": [TOOL]}, None),
        ("deepseek", "deepseek-v4-flash", ANTHROPIC,
         {"messages": CLAUDE_CALLED, "tools": [CLAUDE_TOOL], "max_tokens": 9}, None),
        ("deepseek", "deepseek-v4-pro", OPENAI,
         {"messages": [{"role": "developer", "content": "be brief"}, USER]}, "messages.role=system"),
        # strict templates of engines
        ("vllm", "qwen3.6-27b", OPENAI,
         {"messages": [USER, {"role": "assistant", "content": "hi"}, {"role": "system", "content": "be brief"}, USER]},
         "messages.role=user"),
        ("llama.cpp", "qwen3.8-27b", OPENAI,
         {"messages": [{"role": "developer", "content": "a"}, {"role": "system", "content": "b"}, USER]},
         "messages.role=system"),
        ("llama.cpp", "qwen3.8-27b", ANTHROPIC,
         {"max_tokens": 9, "messages": [USER, {"role": "system", "content": "be brief"}]}, None),
        # LM Studio refuses json_object
        ("lm-studio", "qwen3", OPENAI, {"response_format": {"type": "json_object"}}, "response_format"),
        ("lm-studio", "qwen3", OLLAMA, {"format": "json"}, "response_format"),
        # Mistral's 422 lists what it does not know
        ("mistral", "mistral-large-latest", OPENAI,
         {"max_completion_tokens": 9, "seed": 3, "user": "u1", "stream_options": {"include_usage": True}},
         "max_completion_tokens->max_tokens"),
        ("mistral", "mistral-large-latest", OPENAI,
         {"messages": [{**USER, "name": "bob"}, {"role": "assistant", "content": "hi", "reasoning_content": "hm"},
                       USER]}, "messages.reasoning_content"),
        ("mistral", "mistral-large-latest", ANTHROPIC,
         {"max_tokens": 9, "metadata": {"user_id": "u1"}, "top_k": 3}, "user"),
        # Groq
        ("groq", "llama-3.3-70b-versatile", OPENAI,
         {"logprobs": True, "messages": [{**USER, "name": "bob"}]}, "logprobs"),
        # Grok's reasoning models
        ("xai", "grok-4-0709", OPENAI, {"presence_penalty": 1.0, "stop": ["x"]}, "presence_penalty"),
        ("xai", "grok-4-0709", OLLAMA, {"options": {"presence_penalty": 1.0, "stop": ["x"]}}, "presence_penalty"),
    ],
    ids=_ids,
)  # fmt: skip
async def test_what_a_provider_refuses_is_not_sent(
    tmp_path: Path, profile: str, model: str, path: str, body: dict[str, Any], said: str | None
) -> None:
    """The host refuses as the provider does, and has nothing to refuse; the field says what was changed."""
    stream = path in {ANTHROPIC, OLLAMA}
    async with _stage(tmp_path, profile, model) as (router, host), router.client() as client:
        answer = await client.post(path, json={"model": model, "messages": [USER], "stream": stream, **body})
    assert answer.status_code == 200, (answer.text, host.requests[0].body)
    assert "hello" in answer.text
    if said is not None:
        assert said in answer.headers["x-router-dropped"]
    assert len(host.requests) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (OLLAMA, {"tools": [TOOL], "think": "high"}),
        (ANTHROPIC, {"tools": [CLAUDE_TOOL], "max_tokens": 20_000,
                     "thinking": {"type": "enabled", "budget_tokens": 16_000}}),
    ],
)  # fmt: skip
async def test_a_model_may_think_beside_tools(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    """An agent of another dialect is served on `/v1/responses`, where newer models take an effort beside tools."""
    async with _stage(tmp_path, "openai", "gpt-5.6") as (router, host), router.client() as client:
        answer = await client.post(path, json={"model": "gpt-5.6", "messages": [USER], "stream": False, **body})
    (seen,) = host.requests
    assert answer.status_code == 200
    assert "hello" in answer.text
    assert (seen.path, seen.body["reasoning"]["effort"]) == (RESPONSES, "high")
    assert seen.body["tools"][0]["name"] == "weather"


async def test_a_request_without_a_rule_passes_byte_for_byte(tmp_path: Path) -> None:
    """Numbers, escapes and white space are the client's own."""
    text = b'{"model": "gpt-4o",  "messages": [{"role": "user", "content": "\\u00e9"}], "seed": 1e2}'
    async with _stage(tmp_path, "openai", "gpt-4o") as (router, host), router.client() as client:
        answer = await client.post(OPENAI, content=text)
    assert answer.status_code == 200
    assert "x-router-dropped" not in answer.headers
    assert host.requests[0].text == text


async def test_what_a_rule_leaves_keeps_its_own_text(tmp_path: Path) -> None:
    """Only the member that a rule is about is written anew."""
    kept = b'"messages":[{"role":"user","content":"\\u00e9"}],"seed":123456789012345678901'
    text = b'{"model":"gpt-5","temperature":0.10,%b}' % kept
    async with _stage(tmp_path, "openai", "gpt-5") as (router, host), router.client() as client:
        await client.post(OPENAI, content=text)
    sent = host.requests[0].text
    assert kept in sent
    assert b"temperature" not in sent


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize(("status", "told"), [(500, "true"), (429, "true"), (413, "false"), (400, "false")])
async def test_the_profile_says_whether_to_try_again(tmp_path: Path, path: str, status: int, told: str) -> None:
    """An error of the host has the field for the client's SDK, in whatever dialect."""
    async with (
        refusing_host(lambda _: (status, {"error": {"message": "no"}})) as host,
        running_router(tmp_path, {}, external_hosts={"paid": _entry(host, "openai")}, model_config=_ASSIGNED) as router,
        router.client() as client,
    ):
        answer = await client.post(path, json={"model": "gpt-5", "messages": [USER], "max_tokens": 9})
    assert answer.status_code == status
    assert answer.headers["x-should-retry"] == told


async def test_a_clients_own_version_stays(tmp_path: Path) -> None:
    """A header field that the profile demands is added where there is none."""
    async with _stage(tmp_path, "anthropic", "claude-opus-4-1") as (router, host), router.client() as client:
        for headers in ({}, {"anthropic-version": "2099-01-01"}):
            await client.post(ANTHROPIC, json={"model": "claude-opus-4-1", "messages": [USER], "max_tokens": 9},
                              headers=headers)  # fmt: skip
    assert [seen.fields["anthropic-version"] for seen in host.requests] == ["2023-06-01", "2099-01-01"]


async def test_an_operators_line_stands_above_the_shipped_one(tmp_path: Path) -> None:
    """By its name it replaces one, `without` takes one out, and another is added."""
    profile = {
        "base": "openai",
        "without": ["stop_of_reasoning_models"],
        "lines": {"sampling_of_reasoning_models": {"drop": ["seed"]}, "mine": {"set": {"service_tier": "flex"}}},
    }
    async with (
        refusing_host(lambda _: None) as host,
        running_router(tmp_path, {}, external_hosts={"paid": _entry(host, profile)}, model_config=_ASSIGNED) as router,
        router.client() as client,
    ):
        asked = {"model": "gpt-5", "messages": [USER], "temperature": 0.5, "stop": ["x"], "seed": 1}
        answer = await client.post(OPENAI, json=asked)
    sent = json.loads(host.requests[0].text)
    assert (sent["temperature"], sent["stop"], sent["service_tier"]) == (0.5, ["x"], "flex")
    assert "seed" not in sent
    assert answer.headers["x-router-dropped"] == "seed, service_tier=flex"
