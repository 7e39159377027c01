"""Every setting is read by something: a key that changes nothing is a lie in the reference."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ollama_router_core.config import settings
from ollama_router_core.config.sections import Section

PACKAGES = Path(__file__).parents[3] / "packages"
WRITTEN_FOR_NOBODY = {("Server", "name"), ("ExternalHost", "name")}
"""Accepted because files of the Rails application have them; their descriptions say that nothing reads them."""

READ_AS = {("HostedModel", "input_price"): "price", ("HostedModel", "output_price"): "price"}
"""Settings that are read together, by the attribute that makes one value of them."""


def table_settings() -> Iterator[tuple[str, str]]:
    """Each table of the config and each of its keys."""
    for table in Section.__subclasses__():
        yield from ((table.__name__, name) for name in table.model_fields)


@cache
def attributes_read() -> frozenset[str]:
    """Every attribute that some module outside `config` reads; within it, only the checks read settings."""
    names: set[str] = set()
    for path in PACKAGES.glob("*/src/**/*.py"):
        if "config" not in path.parts or path.name == "checks.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return frozenset(names)


@pytest.mark.parametrize(("table", "name"), sorted(set(table_settings()) - WRITTEN_FOR_NOBODY))
def test_a_setting_has_a_reader(table: str, name: str) -> None:
    """Some module asks for an attribute of that name; one that others share (`host`) may hide a key nobody reads."""
    assert READ_AS.get((table, name), name) in attributes_read(), f"nothing reads {table}.{name}"


@pytest.mark.parametrize(("table", "name"), sorted(WRITTEN_FOR_NOBODY))
def test_a_key_without_a_reader_says_so(table: str, name: str) -> None:
    """Whoever writes such a key learns from the reference that it does nothing."""
    assert "Not used" in (getattr(settings, table).model_fields[name].description or "")
