"""ARCHITECTURE.md names the rooms that the import contracts name."""

from __future__ import annotations

import re
import tomllib
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
