"""A router process with two simulated servers behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.stage import EARS, Stage, run_stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """`big` has all models, `small` one of them; both can pull `mistral:7b`."""
    servers = {"big": ["llama3.1:8b", "qwen3:8b", "gemma3:12b", "nomic-embed-text", EARS], "small": ["llama3.1:8b"]}
    home = tmp_path_factory.mktemp("sdk")
    with run_stage(home, servers, registry=["mistral:7b"], answer_tokens=3) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, key or host of the machine's reaches a client."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith(("OLLAMA_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Which of a library's two clients is used."""
    return str(request.param)
