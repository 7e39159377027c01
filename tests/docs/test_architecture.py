"""ARCHITECTURE.md names the rooms that the import contracts name."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def contract_rooms(package: str) -> list[str]:
    """The rooms of a package in the order of its contract, those of one floor beside each other."""
    (layers,) = [contract["layers"] for contract in CONTRACTS if contract.get("containers") == [package]]
    return [room.strip(" ()") for layer in layers for room in layer.split("|")]


def table_rooms(heading: str) -> list[str]:
    """The first column of the table below a heading."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert section, heading
    return re.findall(r"^\| `([a-z_]+)/?` \|", section[1], re.MULTILINE)


@pytest.mark.parametrize(
    ("package", "heading"),
    [
        ("ollama_router_core", "The core: facts in, decisions out"),
        ("ollama_router_server", "The server"),
        ("ollama_router_cli", "The command line"),
    ],
)
def test_the_tables_are_the_contracts(package: str, heading: str) -> None:
    """A room that is added, renamed or moved is on the map."""
    listed = [room for room in contract_rooms(package) if room != "__main__"]
    assert sorted(table_rooms(heading)) == sorted(listed)


# --- dialects -----------------------------------------------------------------------------------

CORE = "ollama_router_core/src/ollama_router_core"
MAY_ASK = re.compile(rf"{CORE}/(translate/\w+/\w+|api/endpoints)\.py")
"""A dialect's own package, and the table that says which routes are whose."""


def _names_a_dialect(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Family"


def dialects_asked_for(tree: ast.AST) -> list[int]:
    """The lines that compare with a member of `Family`, match it, or make it one of some."""
    kinds = (ast.Compare, ast.MatchValue, ast.Set, ast.List, ast.Tuple, ast.Dict)
    asking = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return [node.lineno for node in asking if any(map(_names_a_dialect, ast.iter_child_nodes(node)))]


def test_nobody_asks_which_dialect_it_is() -> None:
    """What differs between dialects is a fact of a codec or of an endpoint, so a new dialect has to state it."""
    packages = ROOT / "packages"
    found = {
        str(path.relative_to(packages)): lines
        for path in sorted(packages.rglob("*.py"))
        if not MAY_ASK.fullmatch(str(path.relative_to(packages)))
        and (lines := dialects_asked_for(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


def test_asking_is_seen() -> None:
    """The test above would see each of the ways to ask."""
    ways = ("x is Family.A", "x in {Family.A, Family.B}", "match x:\n case Family.A: ...", "{Family.A: 1}[x]")
    assert all(dialects_asked_for(ast.parse(way)) for way in ways)


# --- names of modules ---------------------------------------------------------------------------

OF_DIALECTS = {
    "codec", "embeddings", "errors", "listings", "read_requests", "replies", "streams", "token_counts",
    "write_requests",
}  # fmt: skip
OF_COMMANDS = {
    "explanation", "history", "incidents", "me", "models", "operations", "replay", "request_log", "requests", "rights",
    "serve", "series", "servers", "sessions", "tokens", "usage",
}  # fmt: skip
"""A command of the command line, and what it shows or does."""
OF_ROOMS = {"interface", "system"}
"""What several of the rooms have one of each."""


def test_a_file_name_means_one_thing() -> None:
    """A module has no other's name, unless both are about the same thing (decision 0192)."""
    names = Counter(path.stem for path in (ROOT / "packages").glob("*/src/**/*.py") if not path.stem.startswith("__"))
    shared = {name for name, count in names.items() if count > 1}
    assert shared - OF_DIALECTS - OF_COMMANDS - OF_ROOMS == set()
