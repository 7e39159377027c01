"""The examples of the documentation, run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import ollama
import openai
import pytest

import ollama_router_core as core
from ollama_router_core import AsyncRouterTransport, RouterTransport, load_config
from ollama_router_core.testing import SimulatorThread

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "how-to" / "route-inside-a-program.md").read_text(encoding="utf-8")
LIBRARY = (DOCS / "reference" / "library.md").read_text(encoding="utf-8")
CONFIG = "production:\n  servers:\n    big: {host: 10.0.0.1}\n"
LINES = dict(re.findall(r"^\| ([^|]+?) \| `(.+)` \|$", GUIDE, re.MULTILINE))
OPTIONAL = {"LangChain": ("langchain_ollama", "ChatOllama"), "LlamaIndex": ("llama_index.llms.ollama", "Ollama")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder with a config file, and the names that the examples use."""
    (tmp_path / "orouter.yml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = load_config(CONFIG, environment="production", env={})
    return {
        "ollama": ollama, "openai": openai, "anthropic": anthropic, "httpx": httpx, "httpx2": httpx2, "config": config,
        "RouterTransport": RouterTransport, "AsyncRouterTransport": AsyncRouterTransport,
    }  # fmt: skip


def test_the_guide_has_a_line_for_each_client() -> None:
    """The table is found, so that what follows tests something."""
    assert len(LINES) == 8
    assert OPTIONAL.keys() <= LINES.keys()


@pytest.mark.parametrize("client", LINES)
def test_a_client_is_made_by_its_line(client: str, here: dict[str, Any]) -> None:
    """Each line gives a client, without asking a server anything."""
    if client in OPTIONAL:
        module, name = OPTIONAL[client]
        here[name] = getattr(pytest.importorskip(module, reason="installed by: nox -s client_sdk"), name)
    assert eval(LINES[client], here) is not None  # noqa: S307 - our own documentation


def test_the_fleet_in_memory(here: dict[str, Any]) -> None:
    """The first example of testing a program."""
    exec(_block(GUIDE, "FakeFleet").replace("[...]", '[{"role": "user", "content": "hi"}]'), here)  # noqa: S102 - as above


def test_the_library_routes(here: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The library page's first example, with servers that are there."""
    with SimulatorThread(models=["llama3.1:8b"]) as one, SimulatorThread(models=["llama3.1:8b"]) as two:
        block = _block(LIBRARY, "from_urls").replace("http://gpu-box:11434", one.url)
        exec(block.replace("http://192.168.1.20:11434", two.url), here)  # noqa: S102 - as above
    assert "127.0.0.1" in capsys.readouterr().out


def test_a_program_decides_for_itself(here: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The library page's example without a server."""
    exec(_block(LIBRARY, "FleetSnapshot("), here)  # noqa: S102 - as above
    assert capsys.readouterr().out.startswith("big ")


def test_the_library_page_lists_the_public_names() -> None:
    """All of them, and no other."""
    rows = LIBRARY.partition("## Public names")[2].partition("|---|---|")[2].splitlines()
    assert sorted(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in rows if row))) == sorted(core.__all__)


def _block(page: str, holding: str) -> str:
    """The first Python block with a text in it."""
    return next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if holding in block)
