"""What `import ollama_router_core` gives, and what it costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import ollama_router_core

SOURCE = Path(str(ollama_router_core.__file__)).read_text(encoding="utf-8")
EXPENSIVE = {"aiohttp", "anyio", "asyncio", "bcrypt", "h11", "httpcore", "httpx", "pydantic", "socket", "ssl", "yaml"}


def seen_by_type_checkers() -> dict[str, str]:
    """The names that the block for type checkers imports, with their modules."""
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    found = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= dict.fromkeys(
                (alias.name for alias in node.names), node.module.removeprefix("ollama_router_core.")
            )
    return found


def loaded_by(statement: str) -> set[str]:
    """The top-level modules, and our own rooms, that a fresh interpreter has loaded after a statement."""
    script = f"import sys; before = set(sys.modules); {statement}; import json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return {name for name in json.loads(done.stdout) if "." not in name or name.startswith("ollama_router_core.")}


def test_all_is_alphabetical_and_says_everything_once() -> None:
    """One list that a reader can search."""
    names = ollama_router_core.__all__
    assert names == sorted(set(names))


def test_what_is_exported_is_what_type_checkers_see() -> None:
    """The table for run time and the imports for type checkers are two lists of the same names."""
    assert seen_by_type_checkers() == ollama_router_core._HOME


@pytest.mark.parametrize("name", ollama_router_core.__all__)
def test_each_name_is_its_rooms_own(name: str) -> None:
    """Nothing private or foreign is given out, and the object is the same under both names."""
    room = import_module(f"ollama_router_core.{ollama_router_core._HOME[name]}")
    assert name in room.__all__
    assert getattr(ollama_router_core, name) is getattr(room, name)


def test_other_names_do_not_exist() -> None:
    """As with any module; `dir` lists what there is."""
    with pytest.raises(AttributeError, match="nonsense"):
        ollama_router_core.nonsense  # noqa: B018 - the access is the test
    assert {"decide", "__version__"} <= set(dir(ollama_router_core))


def test_the_version_is_the_distributions() -> None:
    """Read from the installed metadata, so it cannot go stale."""
    assert ollama_router_core.__version__ == version("ollama-router-core")


def test_importing_the_package_loads_no_room() -> None:
    """The import is cheap: no room, no settings parser, no HTTP client, no event loop."""
    loaded = loaded_by("import ollama_router_core")
    assert not loaded & EXPENSIVE
    assert not {name for name in loaded if name.startswith("ollama_router_core.")}


@pytest.mark.parametrize("name", ["UsageReader", "forward", "parse_request", "RouterError"])
def test_a_small_name_loads_nothing_expensive(name: str) -> None:
    """Only settings need pydantic and yaml, only tokens bcrypt, only the client room an HTTP client."""
    assert not loaded_by(f"from ollama_router_core import {name}") & EXPENSIVE


def test_deciding_needs_no_network() -> None:
    """Settings and decisions load neither TLS nor an HTTP client nor an event loop."""
    network = {"aiohttp", "anyio", "asyncio", "h11", "httpcore", "httpx", "ssl"}
    assert not loaded_by("from ollama_router_core import Config, decide, load_config, verify_token") & network
