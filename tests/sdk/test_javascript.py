"""ollama-js and openai-node: every method that talks to a server, in one run of Node.js (js/calls.mjs)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.stage import Stage

FOLDER = Path(__file__).parent / "js"
SPOKEN = "word0 word1 word2"
VALUES: dict[str, Any] = {
    "ollama.show": 32,
    "ollama.chat": SPOKEN,
    "ollama.chat streamed": SPOKEN,
    "ollama.chat with tools": "weather",
    "ollama.chat aborted": "AbortError",
    "ollama.generate": SPOKEN,
    "ollama.generate streamed": SPOKEN,
    "ollama.generate with an image": SPOKEN,
    "ollama.embed": [768, 768],
    "ollama.embeddings": 768,
    "ollama.pull": "success",
    "ollama.pull streamed": "success",
    "ollama.copy": "success",
    "ollama.push": "success",
    "ollama.push streamed": "success",
    "ollama.create": "success",
    "ollama.create streamed": "success",
    "ollama.chat with what was created": SPOKEN,
    "ollama.delete": ["success", "success"],
    "openai.chat.completions.create": SPOKEN,
    "openai.chat.completions.create streamed": SPOKEN,
    "openai.chat.completions.stream": SPOKEN,
    "openai.completions.create": SPOKEN,
    "openai.completions.create streamed": SPOKEN,
    "openai.embeddings.create": [768, 768],
    "openai.models.retrieve": "llama3.1:8b",
    "openai.responses.create": SPOKEN,
    "openai.responses.create streamed": "response.completed",
    "openai.responses.stream": SPOKEN,
    "openai.audio.transcriptions.create": SPOKEN,
    "openai.audio.transcriptions.create from a file": SPOKEN,
}
ERRORS: dict[str, tuple[int, str]] = {
    "ollama.chat, missing model": (404, "model 'nope' not found"),
    "ollama.chat streamed, missing model": (404, "model 'nope' not found"),
    "ollama.delete by a user": (403, "role"),
    "ollama.list by nobody": (401, "token"),
    "openai.chat.completions.create, missing model": (404, "model 'nope' not found"),
    "openai.models.list by nobody": (401, "token"),
}
LISTS = ("ollama.list", "ollama.ps", "openai.models.list")


@pytest.fixture(scope="module")
def results(stage: Stage) -> dict[str, Any]:
    """What every call gave."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        pytest.fail("Node.js and `npm ci` in tests/sdk/js are needed: nox -s sdk does it")
    variables = {"ROUTER_URL": stage.url, "USER_TOKEN": stage.token, "ADMIN_TOKEN": stage.admin_token}
    done = subprocess.run(
        [node, "calls.mjs"],
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))  # ollama-js has notes of its own to print


def test_every_call_is_judged(results: dict[str, Any]) -> None:
    """No call of the script is left without an expectation here."""
    assert set(results) == {*VALUES, *ERRORS, *LISTS, "ollama.version"}


@pytest.mark.parametrize("call", VALUES)
def test_answers(results: dict[str, Any], call: str) -> None:
    """The method returns what it returns from a server."""
    assert results[call] == {"value": VALUES[call]}


@pytest.mark.parametrize("call", ERRORS)
def test_errors(results: dict[str, Any], call: str) -> None:
    """The method throws the library's own error with the status and the text."""
    status, text = ERRORS[call]
    assert results[call].get("status") == status, results[call]
    assert text in results[call]["message"]


@pytest.mark.parametrize("call", LISTS)
def test_lists(results: dict[str, Any], call: str) -> None:
    """A model of both servers is listed once."""
    assert results[call]["value"].count("llama3.1:8b") == 1


def test_version(results: dict[str, Any]) -> None:
    """The version of the servers."""
    assert results["ollama.version"]["value"].startswith("0.")
