"""Our table of routes against one of Ollama's by version, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.api.endpoints import ENDPOINTS, Endpoint, Routing, Version, parse_version

ROUTES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "ollama_routes.json").read_text())["routes"]
ROWS: dict[tuple[str, str], Endpoint] = {(method, row.path): row for row in ENDPOINTS for method in row.methods}
_OURS = {Routing.COUNT, Routing.RERANK, Routing.STORED}
OWN = {(method, row.path) for row in ENDPOINTS if row.routing in _OURS for method in row.methods}
"""What no Ollama has."""


def numbers(text: str | None) -> Version:
    """A version of the file; none for null."""
    return parse_version(text)


def test_every_route_of_every_version_is_ours_and_no_other() -> None:
    """A route that Ollama has and the router lacks would be 404 for its clients."""
    assert {(one["method"], one["path"]) for one in ROUTES} == set(ROWS) - OWN


@pytest.mark.parametrize("route", ROUTES, ids=lambda one: f"{one['method']} {one['path']}")
def test_a_row_knows_since_when(route: dict[str, Any]) -> None:
    """Requests go to servers whose version has the route; lists are asked of all, account routes of one named."""
    row = ROWS[route["method"], route["path"]]
    if "by" not in route:
        assert row.since == numbers(route["since"])
        assert row.gone == numbers(route.get("gone"))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.33.0-rc2", (0, 33, 0)),
        ("0.5", (0, 5)),
        ("v0.40.12", (0, 40, 12)),
        ("dev", ()),
        (None, ()),
        ("1.2.3.4", (1, 2, 3)),
    ],
)
def test_versions_are_read_as_servers_write_them(text: str | None, version: Version) -> None:
    """A candidate of a release counts as the release; what has no numbers is not known."""
    assert parse_version(text) == version
