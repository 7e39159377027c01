"""What `orouter` says of itself, and what errors look like."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import typer.main

from ollama_router_cli.main import COMMANDS, app
from ollama_router_core.errors import ConfigError


def commands() -> Iterator[tuple[str, ...]]:
    """Every command's path, groups included."""
    root: Any = typer.main.get_command(app)
    for name in COMMANDS:
        yield from below((name,), root.get_command(None, name))


def below(path: tuple[str, ...], command: Any) -> Iterator[tuple[str, ...]]:
    """A command's path and those of all below it."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from below((*path, name), inner)


PATHS = tuple(commands())
LEAVES = tuple(path for path in PATHS if not any(other[: len(path)] == path and other != path for other in PATHS))


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_has_help(cli, path):
    """`--help` works everywhere and ends with 0."""
    result = cli(*path, "--help")
    assert result.code == 0
    assert f"Usage: orouter {' '.join(path)}" in result.out


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_teaches_with_examples(cli, path):
    """Each help text shows a line that can be typed."""
    help_text = cli(*path, "--help").out
    assert "Examples:" in help_text
    assert f"orouter {' '.join(path)}" in help_text.partition("Examples:")[2]


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in LEAVES
        if path[0] not in {"init", "demo", "connect", "simulate"} and path != ("config", "reference")
    ],
    ids=" ".join,
)
def test_config_and_environment_work_on_every_command(cli, path):
    """The two options that say which settings hold are the same everywhere."""
    help_text = cli(*path, "--help").out
    assert "--config" in help_text
    assert "--environment" in help_text


@pytest.mark.parametrize("path", [path for path in LEAVES if path[0] not in {"serve", "demo", "connect"}], ids=" ".join)
def test_every_command_with_a_result_prints_json(cli, path):
    """Programs get JSON from every command that ends with a result."""
    assert "--json" in cli(*path, "--help").out


def test_the_root_lists_every_command_with_its_purpose(cli):
    """The list is written without loading the commands; the texts say what the commands say."""
    listing = cli("--help").out
    root: Any = typer.main.get_command(app)
    for name, purpose in COMMANDS.items():
        assert name in listing
        assert purpose in listing
        own = root.get_command(None, name).help
        assert own.startswith(purpose.rstrip(".")), f"{name} calls itself: {own}"


def test_help_loads_nothing_heavy():
    """`orouter --help` answers at once: neither the database nor HTTP nor the config's models are imported."""
    heavy = "{'sqlalchemy', 'alembic', 'pydantic', 'httpx', 'aiohttp', 'uvicorn', 'falcon', 'rich', 'yaml'}"
    code = f"import sys, ollama_router_cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version(cli):
    """`--version` prints the name and the version of the package."""
    assert cli("--version").out == f"orouter {version('ollama-router-cli')}\n"


def test_no_command_shows_the_help_and_is_wrong_usage(cli):
    """A bare `orouter` teaches, and a script notices."""
    result = cli()
    assert result.code == 2
    assert "First steps:" in result.out + result.err


def test_an_unknown_command_names_the_nearest(cli):
    """A typo is answered with what was meant."""
    result = cli("statu")
    assert result.code == 2
    assert "status" in result.err


def test_an_error_is_one_text_and_no_traceback(cli):
    """Failures end with 1, say what is wrong on standard error and leave standard output empty."""
    result = cli("users", "list", "--config", "missing.yml")
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("orouter: there is no config file missing.yml")
    assert "Traceback" not in result.err


def test_an_unexpected_error_is_one_text_too(cli, monkeypatch):
    """A defect of ours is named as such and says how to see more."""
    monkeypatch.setattr("ollama_router_cli.commands.config.inspection.read_settings", lambda *_: {}["gone"])
    result = cli("config", "show")
    assert result.code == 1
    assert result.err == "orouter: internal error: KeyError: 'gone' (OROUTER_TRACEBACK=1 shows where)\n"


def test_the_shell_completes_commands_of_a_group(cli, monkeypatch):
    """Although groups are loaded late."""
    monkeypatch.setenv("_OROUTER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "orouter users ")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert {"create", "list", "show", "regenerate-token", "delete"} <= set(cli().out.split())


def test_a_bug_report_can_have_the_traceback(cli, monkeypatch):
    """OROUTER_TRACEBACK=1 lets the error through as it is."""
    monkeypatch.setenv("OROUTER_TRACEBACK", "1")
    with pytest.raises(ConfigError):
        app(["config", "show", "--config", "missing.yml"])
