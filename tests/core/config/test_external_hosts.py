"""Settings of external hosts: what they may say, and that no key is ever shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.config import Config, dump_config, load_config, redacted
from ollama_router_core.errors import ConfigError

_KEY = "canary-key-93ab"


def _load(**host: Any) -> Config:
    settings = {"external_hosts": {"azure": {"host": "me.openai.azure.com", **host}}}
    return load_config(json.dumps(settings), env={"AZURE_KEY": _KEY})


def _problems(**host: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(**host)
    return " ".join(str(problem) for problem in caught.value.problems)


def test_azure_style_paths_headers_and_models() -> None:
    """A host may have a path of its own, a query, header fields from variables, and other names for its models."""
    config = _load(
        path_prefix="/openai/deployments/{model}",
        query="api-version=2024-10-21",
        headers={"api-key": "${AZURE_KEY}"},
        models={"gpt-4": "gpt4-prod", "small": {"name": "mini", "capabilities": ["completion", "tools"]}},
    )
    host = config.external_hosts["azure"]
    assert host.headers == {"api-key": _KEY}
    assert host.models["gpt-4"].name == "gpt4-prod"
    assert host.models["small"].capabilities == ("completion", "tools")
    assert load_config(dump_config(config)) == config


def test_values_of_headers_are_never_shown() -> None:
    """Neither a repr nor `config show` holds what a header field carries."""
    config = _load(headers={"api-key": "${AZURE_KEY}"})
    assert _KEY not in repr(config)
    assert _KEY not in dump_config(redacted(config))
    assert "api-key" in dump_config(redacted(config))


@pytest.mark.parametrize("value", [f"{_KEY}\r\nx: y", 5, f"{_KEY}\N{EURO SIGN}", ""])
def test_a_header_that_cannot_be_sent_is_refused_without_repeating_it(value: Any) -> None:
    """What is wrong with a header's value is said in words, as the value may be a key."""
    text = _problems(headers={"api-key": value})
    assert "printable ASCII" in text
    assert _KEY not in text


@pytest.mark.parametrize("name", ["host", "Content-Length", "Transfer-Encoding", "a b", ""])
def test_framing_is_not_a_header_to_set(name: str) -> None:
    """Fields by which HTTP/1.1 frames messages are the router's own."""
    assert "framing" in _problems(headers={name: "x"})


@pytest.mark.parametrize("prefix", ["v1", "/v1/", "/../v1", "/a b", "/v1?x=y", "/{other}"])
def test_a_prefix_is_a_plain_path(prefix: str) -> None:
    """A prefix cannot climb, hold a query or name unknown parameters."""
    assert "expected a path" in _problems(path_prefix=prefix)


def test_a_key_has_one_source() -> None:
    """A variable and a file at once would leave open which key counts."""
    assert "keep one" in _problems(api_key_env="AZURE_KEY", api_key_file="/run/secrets/azure")
