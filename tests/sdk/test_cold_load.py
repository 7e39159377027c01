"""Every official client reads over the signs of life that come while a model is loaded (`load_keepalive`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sdk import streams
from sdk.clients import open_calls
from sdk.streams import HI, MODEL, SPOKEN
from support.stage import Stage, run_stage

ollama = pytest.importorskip("ollama")

FOLDER = Path(__file__).parent / "js"
LOAD_SPEED = 8e9  # bytes a second: more than half a second for the model


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A server that takes its time to load, and a sign of life every tenth of a second."""
    home = tmp_path_factory.mktemp("cold")
    pace: dict[str, float] = {"time_scale": 1.0, "load_speed": LOAD_SPEED, "answer_tokens": 3}
    with run_stage(home, {"one": [MODEL]}, settings="load_keepalive: 0.1\n", **pace) as running:
        yield running


@pytest.fixture
def cold(slow: Stage) -> Stage:
    """The model is not in memory."""
    headers = {"authorization": f"Bearer {slow.admin_token}"}
    answer = httpx.post(
        f"{slow.url}/api/generate", json={"model": MODEL, "keep_alive": 0}, headers=headers, trust_env=False
    )
    assert answer.json()["done_reason"] == "unload"
    return slow


def test_ollama_chat(cold: Stage, flavour: str) -> None:
    """Chunks without content, which add nothing to what is said."""
    options = {"host": cold.url, "headers": {"authorization": f"Bearer {cold.token}"}}
    with open_calls(flavour, ollama.Client, ollama.AsyncClient, **options) as client:
        chunks = client.collect("chat", MODEL, HI, stream=True)
    assert "".join(chunk.message.content for chunk in chunks) == SPOKEN
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [chunk.message.content for chunk in chunks[:2]] == ["", ""]


def test_ollama_generate(cold: Stage, flavour: str) -> None:
    """The same for a bare prompt."""
    options = {"host": cold.url, "headers": {"authorization": f"Bearer {cold.token}"}}
    with open_calls(flavour, ollama.Client, ollama.AsyncClient, **options) as client:
        chunks = client.collect("generate", MODEL, "say hi", stream=True)
    assert "".join(chunk.response for chunk in chunks) == SPOKEN
    assert [chunk.response for chunk in chunks[:2]] == ["", ""]


def came_early(headers: Any) -> bool:
    """Whether a head came before any server's: it cannot name one."""
    return "x-router-request-id" in headers and "x-router-server" not in headers


def test_openai_chat(cold: Stage) -> None:
    """Comments, which nobody sees."""
    headers, text = streams.openai_chat(cold)
    assert came_early(headers)
    assert text == SPOKEN


def test_openai_responses(cold: Stage) -> None:
    """The same for the newer route."""
    headers, events = streams.openai_responses(cold)
    assert came_early(headers)
    assert events == ("response.created", "response.completed")


def test_anthropic_messages(cold: Stage) -> None:
    """Pings, which the library keeps to itself."""
    headers, events = streams.anthropic_messages(cold)
    assert came_early(headers)
    assert events == ("message_start", "message_stop")


def test_anthropic_helper(cold: Stage, flavour: str) -> None:
    """The helper that builds the message from events, of which a ping is the first."""
    assert streams.anthropic_helper(cold, flavour) == SPOKEN


@pytest.mark.parametrize("call", ["ollama.chat", "ollama.generate", "openai.chat", "openai.responses"])
def test_javascript(cold: Stage, call: str) -> None:
    """ollama-js and openai-node say what the server said, though the head came before it."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        pytest.fail("Node.js and `npm ci` in tests/sdk/js are needed: nox -s sdk does it")
    done = subprocess.run(
        [node, "cold.mjs", call],
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "ROUTER_URL": cold.url, "USER_TOKEN": cold.token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"text": SPOKEN, "early": True}
