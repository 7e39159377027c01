"""Which row of the table a method and a path find, and which dialect an error has where none is found."""

from __future__ import annotations

import pytest

from ollama_router_core.api.endpoint_matching import family_of_path, match_endpoint
from ollama_router_core.api.endpoints import Family
from ollama_router_core.errors import MethodNotAllowed, UnknownRoute


@pytest.mark.parametrize(
    "path",
    ["", "/api", "/api/", "/api/chat/", "//api/chat", "/api/../api/chat", "/api/%63hat", "/API/chat", "/api/chat?x=1",
     "/v1", "/v2/models", "/debug/pprof", "/api/chat\x00", "api/chat", "/api//chat", "*"],
)  # fmt: skip
def test_a_path_outside_the_table_is_unknown(path: str) -> None:
    """Nothing is decoded, normalised or guessed: what is not spelled as in the table does not exist."""
    with pytest.raises(UnknownRoute):
        match_endpoint("GET", path)


def test_a_wrong_method_is_told_the_right_ones() -> None:
    """405 lists what the path takes, so that `Allow` can be sent."""
    with pytest.raises(MethodNotAllowed) as caught:
        match_endpoint("GET", "/api/chat")
    assert caught.value.allowed == ("POST",)
    with pytest.raises(MethodNotAllowed) as caught:
        match_endpoint("POST", "/api/tags")
    assert set(caught.value.allowed) == {"GET", "HEAD"}


@pytest.mark.parametrize("method", ["get", "Post", "", "CONNECT", "GET "])
def test_methods_are_compared_as_sent(method: str) -> None:
    """Methods are case-sensitive (RFC 9110, 9.1)."""
    with pytest.raises(MethodNotAllowed):
        match_endpoint(method, "/api/tags")


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/", Family.OLLAMA),
        ("/api/nothing", Family.OLLAMA),
        ("/nothing", Family.OLLAMA),
        ("/v1", Family.OPENAI),
        ("/v1/nothing", Family.OPENAI),
        ("/v1/messages", Family.ANTHROPIC),
        ("/v1/messages/count_tokens", Family.ANTHROPIC),
    ],
)
def test_unknown_paths_have_a_dialect_too(path: str, family: Family) -> None:
    """A 404 is written in the dialect that the client of such a path reads."""
    assert family_of_path(path) is family
