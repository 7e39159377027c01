"""A router's address, as it is typed."""

from __future__ import annotations

import pytest

from ollama_router_core.errors import ConfigError
from ollama_router_server.process.router_address import read_address


@pytest.mark.parametrize(
    ("url", "origin", "prefix"),
    [
        ("http://box", ("http", "box", 80), ""),
        ("https://box/llm/", ("https", "box", 443), "/llm"),
        ("box", ("http", "box", 11434), ""),
        ("box:8080", ("http", "box", 8080), ""),
        ("http://[::1]:1234", ("http", "::1", 1234), ""),
    ],
)
def test_an_address_is_read_as_ollama_reads_one(url: str, origin: tuple[str, str, int], prefix: str) -> None:
    """Without a scheme the port is 11434; a path stays before every path."""
    read = read_address(url)
    assert ((read.origin.scheme, read.origin.host, read.origin.port), read.prefix) == (origin, prefix)


@pytest.mark.parametrize(
    "url", ["", "ftp://box", "http://", "http://u:canary@box", "http://box?canary", "http://box:x"]
)
def test_what_is_no_address_is_told_without_repeating_it(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigError) as caught:
        read_address(url)
    assert "canary" not in str(caught.value)
