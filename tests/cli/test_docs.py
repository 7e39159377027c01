"""docs/reference/cli.md says everything that `orouter` can do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from ollama_router_cli.main import COMMANDS, app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
COMMON = {"--config", "--environment", "--json", "--help"}


def leaves() -> list[tuple[str, Any]]:
    """Every command that does something, by what is typed."""
    root: Any = typer.main.get_command(app)
    return [leaf for name in COMMANDS for leaf in below(name, root.get_command(None, name))]


def below(path: str, command: Any) -> list[tuple[str, Any]]:
    """The command, or those of the group."""
    inner = getattr(command, "commands", None) or {}
    return [leaf for name, one in inner.items() for leaf in below(f"{path} {name}", one)] or [(path, command)]


def section(heading: str) -> str:
    """The text between a heading and the next."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"docs/reference/cli.md has no section {heading!r}"
    return found[1]


@pytest.mark.parametrize(("path", "command"), leaves(), ids=[path for path, _ in leaves()])
def test_every_command_and_option_is_documented(path, command):
    """A section a command; in it each option by its long name, and each argument that must be typed."""
    text = section(f"`orouter {path}`")
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            assert parameter.metavar.strip("[].") in text
        else:
            names = {name for name in parameter.opts if name.startswith("--")}
            assert names <= COMMON or any(re.search(rf"`[^`]*{name}\b", text) for name in names), names


def test_the_root_options_are_documented():
    """With those that every command has."""
    text = section("Common options and conventions")
    root: Any = typer.main.get_command(app)
    for parameter in root.params:
        assert any(name in text for name in parameter.opts), parameter.opts
    assert all(name in text for name in COMMON)


def test_no_section_is_about_a_command_that_is_gone():
    """The page does not outlive the command."""
    headings = re.findall(r"^### `orouter (.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(path for path, _ in leaves())
