"""The config without a file, and how OLLAMA_HOST is read."""

from __future__ import annotations

import pytest

from ollama_router_core.config import Server, default_config, dump_config, load_config, parse_ollama_host
from ollama_router_core.errors import ConfigError


def test_without_a_variable_the_local_ollama_is_the_only_server():
    """The router listens on 11433, since 11434 is the local Ollama's."""
    config = default_config({})
    assert config.servers == {"local": Server(host="127.0.0.1", port=11434)}
    assert config.proxy_port == 11433


@pytest.mark.parametrize(
    "host", ["", "127.0.0.1", "0.0.0.0:11433", "localhost:11433", "https://gpu.lan", "[::1]:11433"]
)
def test_built_in_defaults_never_call_themselves(host: str):
    """Whatever OLLAMA_HOST is, the defaults pass every check of a file."""
    config = default_config({"OLLAMA_HOST": host})
    assert load_config(dump_config(config)) == config


@pytest.mark.parametrize(
    ("text", "protocol", "host", "port"),
    [
        ("", "http", "127.0.0.1", 11434),
        ("gpu.lan", "http", "gpu.lan", 11434),
        ("gpu.lan:8080", "http", "gpu.lan", 8080),
        ("http://gpu.lan", "http", "gpu.lan", 80),
        ("https://gpu.lan", "https", "gpu.lan", 443),
        ("https://gpu.lan:8443/", "https", "gpu.lan", 8443),
        (":8080", "http", "127.0.0.1", 8080),
        ("0.0.0.0", "http", "127.0.0.1", 11434),
        ("[::]:9", "http", "::1", 9),
        ("::1", "http", "::1", 11434),
        ("[fd00::1]", "http", "fd00::1", 11434),
        ("[fd00::1]:99", "http", "fd00::1", 99),
        ("gpu.lan:abc", "http", "gpu.lan", 11434),
        ("gpu.lan:70000", "http", "gpu.lan", 11434),
        ("https://gpu.lan:0", "https", "gpu.lan", 443),
        ("ollama.com", "https", "ollama.com", 443),
        (' "gpu.lan" ', "http", "gpu.lan", 11434),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(text: str, protocol: str, host: str, port: int):
    """Scheme and port are optional, and each scheme has its own port."""
    server = parse_ollama_host(text)
    assert (server.protocol, server.host, server.port) == (protocol, host, port)


@pytest.mark.parametrize("text", ["https://h/t/canary", "http://user:canary@h", "ftp://h", "http://h canary"])
def test_what_a_server_has_no_place_for_is_refused_without_repeating_it(text: str):
    """A path or a user would be dropped in silence; either may hold a secret."""
    with pytest.raises(ConfigError, match="OLLAMA_HOST: expected") as caught:
        default_config({"OLLAMA_HOST": text})
    assert "canary" not in str(caught.value)
