"""Routes of foreign services: only what the config lists, spelled as it is listed."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.config import Config, load_config
from ollama_router_core.errors import ConfigError, InvalidTarget, MethodNotAllowed, UnknownRoute
from ollama_router_core.outbound.external_routes import checked_query, match_external

ROUTES = ["GET /v1/files", "GET /v1/files/{id}", "DELETE /v1/files/{id}", "PUT /v1/files/{id}/content", "PATCH /v2"]


def config(routes: list[str] | None = None) -> Config:
    """A config with one host that has routes of its own."""
    host = {"host": "api.openai.com", "routes": ROUTES if routes is None else routes}
    off = {"host": "x.example", "routes": ROUTES, "enabled": False}
    return load_config(json.dumps({"servers": {}, "external_hosts": {"openai": host, "off": off}}))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/files"), ("DELETE", "/v1/files/file-1.txt"), ("PUT", "/v1/files/a/content"), ("PATCH", "/v2")],
)
def test_a_listed_route_passes_with_its_method(method: str, path: str) -> None:
    """Every method a service documents, PUT and PATCH too."""
    match = match_external(method, "/external/openai" + path, config())
    assert (match.host, match.target) == ("openai", path)


@pytest.mark.parametrize(
    "path",
    ["/external/openai/v1/chat/completions", "/external/openai", "/external/openai/", "/external/off/v1/files",
     "/external/nobody/v1/files", "/external/openai/v1/files/..", "/external/openai/v1/files/%2e%2e",
     "/external/openai/v1/files/", "/external/openai//v1/files", "/external/openai/v1/files/a/../b",
     "/external/openai/V1/files", "/external/"],
)  # fmt: skip
def test_everything_else_does_not_exist(path: str) -> None:
    """Nothing is normalised, so nothing can be smuggled."""
    with pytest.raises(UnknownRoute):
        match_external("GET", path, config())


def test_a_listed_path_with_another_method_is_405() -> None:
    """With the methods that are listed for it."""
    with pytest.raises(MethodNotAllowed) as caught:
        match_external("POST", "/external/openai/v1/files/1", config())
    assert caught.value.allowed == ("GET", "DELETE")


@pytest.mark.parametrize("query", ["", "limit=10&after=file-1", "a[]=1&q=%20x"])
def test_a_query_passes_as_it_is(query: str) -> None:
    """These routes have queries of their own."""
    assert checked_query(query) == (f"?{query}" if query else "")


@pytest.mark.parametrize("query", ["a b", "a#b", "a\r\nX: y", "\x00", "x" * 3000, "é"])
def test_a_query_that_could_be_misread_is_refused(query: str) -> None:
    """No line ends, no fragments, no endless texts."""
    with pytest.raises(InvalidTarget):
        checked_query(query)


@pytest.mark.parametrize("route", ["GET v1", "TRACE /v1", "GET /a/../b", "GET /v1/", "GET  /v1", "GET /{A}", "GET /"])
def test_a_route_that_cannot_be_meant_is_a_config_error(route: str) -> None:
    """Found when the config is read."""
    with pytest.raises(ConfigError):
        config([route])
