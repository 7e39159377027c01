"""Canaries in every place where a secret can be sent; none may show up in any place that is read later."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ollama_router_core.config import load_config
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.telemetry.router_log import FILE_NAME, configure_logging
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

PROMPT, SYSTEM, TOOL, IMAGE = "canary-prompt", "canary-system", "canary-tool", "Y2FuYXJ5LWltYWdl"
QUERY, HEADER, KEY = "canary-query", "canary-header", "sk-canary-provider-key"
MODELS = [model("llama3.1:8b")]


async def send_everything(router: RunningRouter) -> list[str]:
    """Requests that succeed, fail and are refused, on every kind of route; returns what models answered."""
    answers = []
    chat = {
        "model": "llama3.1:8b",
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}],
        "tools": [{"type": "function", "function": {"name": TOOL, "parameters": {"type": "object"}}}],
        "stream": False,
        "max_tokens": 20,
    }
    async with router.client() as client:
        client.headers.update({"x-secret": HEADER, "cookie": HEADER})
        for path in ("/api/chat", "/v1/chat/completions"):
            for body in (chat, {**chat, "stream": True}, {**chat, "model": "gone:7b"}, {**chat, "options": PROMPT}):
                answer = await client.post(f"{path}?key={QUERY}", json=body)
                answers.append(answer.text if answer.status_code == 200 else "")
        generate = {"model": "llama3.1:8b", "prompt": PROMPT, "images": [IMAGE], "stream": False}
        await client.post(f"/api/generate?key={QUERY}", json=generate)
        await client.post("/api/embed", json={"model": "llama3.1:8b", "input": PROMPT})
        await client.post("/v1/chat/completions", json={**chat, "model": "hosted"})
        await client.post("/api/chat", content=f'{{"model": "{PROMPT}'.encode())
        await client.get(f"/nowhere/{PROMPT}?key={QUERY}")
        await client.post("/api/chat", json=chat, headers={"authorization": f"Bearer {router.token}x"})
        await client.post("/api/chat", json=chat, headers={"x-api-key": router.admin_token})
    return answers


async def what_admins_can_read(router: RunningRouter) -> str:
    """Every route that shows something, with and without a token."""
    paths = ("status", "users", "users/alice", "users/alice/tokens", "groups", "usage", "explain?model=llama3.1:8b")
    texts: list[str] = []
    async with router.client(router.admin_token) as admin, router.client("") as nobody:
        texts += [(await admin.get(path)).text for path in (*(f"/router/{path}" for path in paths), "/metrics")]
        texts += [(await nobody.get(path)).text for path in ("/health", "/readyz", "/metrics", "/router/status")]
    return "\n".join(texts)


def what_the_database_holds(path: Path) -> str:
    """Every cell of every table, and the file's bytes."""
    with closing(sqlite3.connect(path)) as connection:
        dump = "\n".join(connection.iterdump())
    return dump + path.read_bytes().decode("latin-1")


async def test_no_sink_holds_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Request log, JSON logs on both ways out, admins' routes, metrics: no prompt, answer, token, key or query."""
    for name in ("httpx", "httpcore"):  # the client of this test, not the router
        caplog.set_level("CRITICAL", logger=name)
    stream = io.StringIO()
    (tmp_path / "logs").mkdir()
    settings = load_config(
        f'{{"servers": {{"a": {{"host": "a"}}}}, "logging": {{"level": "debug", "directory": "{tmp_path}/logs"}}}}'
    )
    close_logs = configure_logging(settings.logging, stream=stream)
    try:
        async with (
            OllamaSimulator(models=MODELS) as sim,
            running_router(
                tmp_path,
                {"one": server_entry(sim), "gone": {"host": "127.0.0.1", "port": 9}},
                environment={"HOSTED_KEY": KEY},
                external_hosts={
                    "paid": {"host": "127.0.0.1", "port": sim.port, "protocol": "http", "api_key_env": "HOSTED_KEY"}
                },
                model_config={"explicit_assignments": {"hosted": "paid"}},
                request_log={"directory": str(tmp_path / "rows")},
            ) as router,
        ):
            answers = await send_everything(router)
            await router.services.users.create("late")  # a digest is written while logs are at `debug`
            rows = await router.rows(10)
            read = await what_admins_can_read(router)
            tokens = [router.token, router.admin_token]
    finally:
        close_logs()
    sinks = {
        "database": what_the_database_holds(tmp_path / "router.sqlite3"),
        "rows": repr(rows),
        "standard error": stream.getvalue(),
        "log file": (tmp_path / "logs" / FILE_NAME).read_text(),
        "lines": (tmp_path / "rows" / "requests.jsonl").read_text(),
        "routes": read,
    }
    assert all(sinks.values())
    assert "llama3.1:8b" in sinks["database"]  # it does hold what it should
    said = [text[-200:] for text in answers if text]
    assert "$2b$" not in sinks["standard error"] + sinks["log file"] + sinks["routes"]
    for name, text in sinks.items():
        for canary in (PROMPT, SYSTEM, TOOL, IMAGE, QUERY, HEADER, KEY, *tokens, *said):
            assert canary not in text, f"{name} holds {canary[:20]}"
