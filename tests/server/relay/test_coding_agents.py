"""What Claude Code and Codex send, on the way to a host of another dialect: nothing of it ends a session."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.pdf import pdf_of
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(64)).decode()
READ = {"name": "Read", "description": "Read a file.", "input_schema": {"type": "object", "properties": {}}}
CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_01", "name": "Read", "input": {"p": "a"}}]}


def result(*parts: dict[str, Any]) -> dict[str, Any]:
    """What a call of a tool gave."""
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01", "content": list(parts)}]}


def source(media_type: str, data: str) -> dict[str, Any]:
    """Bytes in a message."""
    return {"type": "base64", "media_type": media_type, "data": data}


ASKED = {"role": "user", "content": "what is in a?"}
TURNS: dict[str, list[dict[str, Any]]] = {
    "an image in a result": [ASKED, CALL, result({"type": "image", "source": source("image/png", PICTURE)})],
    "a PDF in a result": [
        ASKED,
        CALL,
        result({"type": "document", "source": source("application/pdf", pdf_of("hello"))}),
    ],
    "the system in mid-conversation": [
        ASKED,
        {"role": "system", "content": "<system-reminder>be brief</system-reminder>"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "go on"},
    ],
    "an interrupted call": [ASKED, CALL, {"role": "user", "content": "[Request interrupted by user]stop"}],
    "an interrupted answer": [ASKED, {"role": "assistant", "content": ""}, {"role": "user", "content": "stop"}],
    "a compacted session": [
        {"role": "user", "content": "This session is being continued from a previous conversation."},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "so", "signature": "foreign"}]},
        {"role": "user", "content": [{"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}}]},
    ],
}


@asynccontextmanager
async def session(folder: Path, api: str, **config: Any) -> AsyncIterator[tuple[RunningRouter, httpx.AsyncClient]]:
    """A router whose models are behind a host of this dialect, and an agent's client."""
    async with OllamaSimulator(models=[model(MODEL, capabilities=("completion", "tools", "vision"))]) as sim:
        host = server_entry(sim, protocol="http", api=api, models={"opus": MODEL})
        settings = {"aliases": {"claude-haiku-4-5": "opus"}, "explicit_assignments": {"opus": "host"}}
        config = {"external_hosts": {"host": host}, "model_config": settings, **config}
        async with running_router(folder, {}, **config) as router, router.client() as client:
            yield router, client


@pytest.mark.parametrize("api", ["openai", "ollama"])
@pytest.mark.parametrize("turn", TURNS)
async def test_a_turn_of_claude_code_is_answered(tmp_path: Path, api: str, turn: str) -> None:
    """With its query, its fields, the names of its fast models, and what it says of its user."""
    asked = {
        "model": "claude-haiku-4-5",
        "max_tokens": 64,
        "system": [{"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}}],
        "messages": TURNS[turn],
        "tools": [READ],
        "metadata": {"user_id": "user_" + "0a" * 32 + "_account__session_1b4e28ba"},
        "stream": True,
    }
    fields = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219", "x-stainless-lang": "js"}
    async with session(tmp_path, api) as (router, client):
        answer = await client.post("/v1/messages?beta=true", json=asked, headers=fields)
        del asked["stream"]
        counted = await client.post("/v1/messages/count_tokens?beta=true", json=asked, headers=fields)
        (row,) = (row for row in await router.rows(2) if row.path == "/v1/messages")
    assert answer.status_code == 200, answer.text
    assert "event: message_stop" in answer.text
    assert (row.model_asked, row.error_code) == ("claude-haiku-4-5", None)
    assert counted.json()["input_tokens"] > 0


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/chat/completions"])
async def test_a_wrong_token_ends_the_session_at_once(tmp_path: Path, path: str) -> None:
    """401, and no try after it."""
    async with session(tmp_path, "openai") as (router, _), router.client("wrong" * 6) as client:
        answer = await client.post(path, json={"model": "opus", "messages": [ASKED], "input": "hi", "max_tokens": 9})
    assert answer.status_code == 401
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_a_turn_of_codex_is_answered(tmp_path: Path, api: str) -> None:
    """Its hosted tools, which are listed in every request, are left out where they cannot run, and named."""
    asked = {
        "model": "opus",
        "instructions": "You are Codex.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "sandboxed"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        ],
        "tools": [
            {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}, "strict": False},
            {"type": "custom", "name": "apply_patch", "description": "edit", "format": {"type": "text"}},
            {"type": "web_search", "external_web_access": False},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": None,
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199",
    }
    async with session(tmp_path, api) as (_, client):
        answer = await client.post("/v1/responses", json=asked)
        counted = await client.post("/v1/responses/input_tokens", json={**asked, "stream": False})
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.text.rsplit("data: ", 1)[1])["type"] == "response.completed"
    assert "web_search" in answer.headers["x-router-dropped"]
    assert counted.json()["input_tokens"] > 0
