"""`url` of a server: an address in one."""

from __future__ import annotations

import pytest

from ollama_router_core.config import dump_config, load_config
from ollama_router_core.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://gpu.lan", ("https", "gpu.lan", 443, None)),
        ("https://gpu.lan/ollama/", ("https", "gpu.lan", 443, "/ollama")),
        ("http://10.0.0.1:11434", ("http", "10.0.0.1", 11434, None)),
        ("http://[::1]:8080/a/b", ("http", "::1", 8080, "/a/b")),
        ("http://gpu", ("http", "gpu", 80, None)),
    ],
)
def test_it_stands_for_protocol_host_port_and_path(url: str, address: tuple[str, str, int, str | None]) -> None:
    """As in a browser: without a port it is the scheme's. What is written from the config reads the same."""
    config = load_config(f"servers: {{a: {{url: '{url}'}}}}")
    server = config.servers["a"]
    assert (server.protocol, server.host, server.port, server.path_prefix) == address
    assert load_config(dump_config(config)) == config


@pytest.mark.parametrize(
    "url", ["gpu.lan", "ftp://gpu", "https://user:pass@gpu", "https://gpu/?a=b", "https://gpu/../x"]
)
def test_anything_else_is_refused_with_its_line(url: str) -> None:
    """A password in an address would be shown wherever the address is."""
    with pytest.raises(ConfigError) as caught:
        load_config(f"servers:\n  a:\n    url: '{url}'\n")
    assert {problem.line for problem in caught.value.problems} <= {2, 3}


def test_two_servers_of_one_host_differ_by_their_paths() -> None:
    """A proxy may have several behind it; the same path twice is one server twice."""
    text = "servers: {{a: {{url: 'https://gpu/a'}}, b: {{url: 'https://gpu/{0}'}}}}"
    assert len(load_config(text.format("b")).servers) == 2
    with pytest.raises(ConfigError, match="the same host and port"):
        load_config(text.format("a"))
