"""Every error code, header and metric is documented. Settings and commands: tests/core/config and tests/cli."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import ollama_router_cli
import ollama_router_core
import ollama_router_server
from ollama_router_core.errors import RouterError

ROOT = Path(__file__).parents[2]
ERRORS = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
HEADERS = (ROOT / "docs" / "reference" / "headers.md").read_text(encoding="utf-8")


def subclasses(kind: type[RouterError]) -> Iterator[type[RouterError]]:
    """A class and all below it."""
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


def every_error() -> list[type[RouterError]]:
    """The whole tree, with what packages above the core add to it."""
    for package in (ollama_router_core, ollama_router_server, ollama_router_cli):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith((".__main__", ".asgi")) and ".migrations" not in module.name:
                import_module(module.name)
    return [kind for kind in subclasses(RouterError) if kind.__module__.startswith("ollama_router_")]


@pytest.fixture(scope="module")
def errors() -> list[type[RouterError]]:
    """Imported once."""
    return every_error()


def rows(page: str) -> dict[str, str]:
    """Each row of a page's tables by the code in its first column."""
    return {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)` \|.*$", page, re.MULTILINE)}


def test_every_error_code_is_documented_with_its_status(errors: list[type[RouterError]]) -> None:
    """Who sees a code finds what to do."""
    documented = rows(ERRORS)
    for kind in errors:
        assert kind.code in documented, f"{kind.__name__}: docs/reference/errors.md has no row for `{kind.code}`"
        status = documented[kind.code].split("|")[2].strip()
        assert status in {str(kind.status_hint), "-"}, kind.__name__


def test_no_code_is_documented_that_is_gone(errors: list[type[RouterError]]) -> None:
    """The page does not outlive the code."""
    assert set(rows(ERRORS)) == {kind.code for kind in errors}


def test_no_two_errors_share_a_code(errors: list[type[RouterError]]) -> None:
    """A code is how programs tell errors apart; a class without one of its own would hide behind its parent."""
    codes = [kind.code for kind in errors]
    assert sorted(codes) == sorted(set(codes))


def sources() -> str:
    """All code of the packages."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("packages/*/src/**/*.py")))


def test_every_header_of_ours_is_documented() -> None:
    """Whatever the code calls X-Router-Something has a row, and the other way round."""
    used = {name.lower() for name in re.findall(r"\bx-router-[a-z]+(?:-[a-z]+)*", sources(), re.IGNORECASE)}
    documented = {name.lower() for name in rows(HEADERS) if name.lower().startswith("x-router-")}
    assert used == documented


def test_every_metric_is_documented() -> None:
    """Names of metrics begin with `orouter_`; each stands in some page."""
    used = set(re.findall(r"""["'](orouter_[a-z0-9_]+)["']""", sources()))
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    assert not {name for name in used if f"`{name}" not in pages}
