"""Which route a path outside the table was meant to be."""

from __future__ import annotations

import pytest

from ollama_router_core.api.endpoints import ENDPOINTS
from ollama_router_core.api.wrong_addresses import clean_path, meant_endpoint


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/api/chat", "/api/chat"),
        ("/api/api/tags/", "/api/tags"),
        ("/openai/v1/models", "/v1/models"),
        ("/v1/v1/models/llama3:8b", "/v1/models/{model}"),
        ("/anthropic/v1/messages", "/v1/messages"),
        ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/openai/chat/completions", "/v1/chat/completions"),
        ("/messages", "/v1/messages"),
        ("/tags", "/api/tags"),
        ("//v1//v1//responses", "/v1/responses"),
    ],
)
def test_a_base_url_with_a_segment_too_many_or_too_few_is_recognised(path: str, meant: str) -> None:
    """The longest route that the path ends in is meant."""
    found = meant_endpoint(path)
    assert found is not None
    assert found.path == meant


@pytest.mark.parametrize("path", ["/", "", "/x", "/api", "/v1", "/nothing/here", "/v2/chat", "*", "/" + "v1/" * 400])
def test_nothing_is_made_up(path: str) -> None:
    """Of other paths nobody knows what they were meant to be."""
    assert meant_endpoint(path) is None


@pytest.mark.parametrize(
    ("method", "path", "clean"),
    [
        ("POST", "/api/chat/", "/api/chat"),
        ("POST", "//api/chat", "/api/chat"),
        ("GET", "/api//tags", "/api/tags"),
        ("GET", "/v1/models/llama3:8b/", "/v1/models/llama3:8b"),
        ("GET", "/api/chat/", None),
        ("POST", "/api/chat", None),
        ("POST", "/api/./chat", None),
        ("POST", "/v1/v1/chat/completions/", None),
    ],
)
def test_only_slashes_are_too_many(method: str, path: str, clean: str | None) -> None:
    """What is redirected is a known route with that method, and nothing else about the path is changed."""
    assert clean_path(method, path) == clean


@pytest.mark.parametrize("row", ENDPOINTS, ids=lambda row: row.name)
def test_every_route_is_found_behind_its_base_url_twice(row) -> None:
    """A client that appends its path to a base URL that has it already."""
    if row.path not in {"/", "/rerank"}:  # the latter is a route behind it, too
        found = meant_endpoint("/v1" + row.path.replace("{", "").replace("}", ""))
        assert found is not None
        assert found.path == row.path
