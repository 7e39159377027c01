"""The route table: what is known, what is refused, and that the rows agree with each other."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from ollama_router_core.api.endpoint_matching import family_of_path, match_endpoint
from ollama_router_core.api.endpoints import ENDPOINTS, Body, Endpoint, Kind, Routing

rows = pytest.mark.parametrize("row", ENDPOINTS, ids=[row.name for row in ENDPOINTS])


def spelled(row: Endpoint) -> str:
    """The row's path with its parameter filled in."""
    return re.sub(r"\{[a-z]+\}$", "value", row.path)


@rows
def test_each_row_is_found_by_each_of_its_methods(row: Endpoint) -> None:
    """A row that the lookup cannot reach would be a route that only the documentation knows."""
    for method in row.methods:
        match = match_endpoint(method, spelled(row))
        assert match.endpoint is row
        assert match.parameter == ("value" if "{" in row.path else None)


def test_no_two_rows_share_a_name_or_a_method_and_path() -> None:
    """Names appear in metrics and logs, a method and path decide what runs: both must be unique."""
    names = Counter(row.name for row in ENDPOINTS)
    routes = Counter((method, row.path) for row in ENDPOINTS for method in row.methods)
    assert max(names.values()) == 1
    assert max(routes.values()) == 1


@rows
def test_a_row_agrees_with_itself(row: Endpoint) -> None:
    """Routes that infer name a model, take POST and say which capability they need; reading routes never stream."""
    assert row.family is family_of_path(row.path) is family_of_path(row.path + "/x")
    assert not row.path.endswith("/") or row.path == "/"
    if row.kind is Kind.INFER:
        assert row.methods == ("POST",)
        assert row.model_keys[0] == "model"
        assert row.needs is not None or row.name == "openai_speech"  # which has no word for its capability yet
        assert row.routing in {Routing.ONE, Routing.RERANK}
    if row.kind is Kind.READ:
        assert row.streams is None
        assert not row.counts_usage


@pytest.mark.parametrize(
    ("path", "streams"),
    [
        ("/api/generate", True),
        ("/api/chat", True),
        ("/api/embed", None),
        ("/v1/chat/completions", False),
        ("/v1/completions", False),
        ("/v1/embeddings", None),
        ("/v1/messages", False),
    ],
)
def test_stream_defaults_are_those_of_ollama(path: str, streams: bool | None) -> None:
    """A body without `stream` streams on Ollama's own routes and does not on the compatible ones."""
    assert match_endpoint("POST", path).endpoint.streams is streams


def test_only_routes_about_the_account_have_json_and_a_parameter() -> None:
    """A request for a model is sent to the path of its row as it stands."""
    rows = [row for row in ENDPOINTS if row.body is Body.JSON and "{" in row.path]
    assert {row.kind for row in rows} <= {Kind.ACCOUNT}
