"""The recipes of docs/how-to/external-hosts.md load, and requests go where those services expect them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config import Config, load_config
from ollama_router_core.outbound.destinations import Destination, build_destinations
from ollama_router_core.outbound.header_fields import request_fields

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "external-hosts.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
KEYS = {"OPENROUTER_API_KEY": "sk-or", "AZURE_OPENAI_KEY": "azure-key"}


def _load(block: str) -> Config:
    return load_config(block)


def _place(name: str) -> Destination:
    return build_destinations(_load(BLOCKS[-1]), KEYS, lambda _: "", shipped_profiles())[name]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_loads(block: str) -> None:
    """What the page shows is what the router takes."""
    assert _load(block).external_hosts


@pytest.mark.parametrize(
    ("name", "asked", "url"),
    [
        ("vllm", "m", "http://192.168.1.30:8000/v1/chat/completions"),
        ("llamacpp", "m", "http://192.168.1.31:8080/v1/chat/completions"),
        ("lmstudio", "m", "http://192.168.1.32:1234/v1/chat/completions"),
        ("openrouter", "claude", "https://openrouter.ai:443/api/v1/chat/completions"),
        ("azure", "gpt-4o",
         "https://example.openai.azure.com:443/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"),
    ],
)  # fmt: skip
def test_where_a_chat_goes(name: str, asked: str, url: str) -> None:
    """The address each service documents for itself."""
    place = _place(name)
    assert place.base_url + place.path_of("/v1/chat/completions", place.model_there(asked)) == url


def test_how_the_keys_are_sent() -> None:
    """Each service's own field, beside the operator's."""
    openrouter = dict(request_fields([], _place("openrouter"), "1"))
    assert (openrouter[b"authorization"], openrouter[b"http-referer"]) == (b"Bearer sk-or", b"https://chat.example.org")
    azure = dict(request_fields([], _place("azure"), "1"))
    assert azure[b"api-key"] == b"azure-key"
    assert b"authorization" not in azure
