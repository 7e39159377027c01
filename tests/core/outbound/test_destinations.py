"""Config names to places, and keys that only these places see."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_router_core.api.endpoints import Family
from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config import Config, ExternalHost
from ollama_router_core.outbound.destinations import Destination, build_destinations, missing_keys

KEY = "sk-canary-40d2"


def _read(path: str) -> str:
    if path == "/keys/good":
        return f"  {KEY}\n"
    raise FileNotFoundError(path)


def _host(**settings: Any) -> Destination:
    config = Config(external_hosts={"paid": ExternalHost(**{"host": "api.example.com", **settings})})
    return build_destinations(config, {"KEY": KEY, "EMPTY": "", "ODD": "two\r\nlines"}, _read, shipped_profiles())[
        "paid"
    ]


@pytest.mark.parametrize(
    ("host", "api", "family"),
    [
        ("api.anthropic.com", "auto", Family.ANTHROPIC),
        ("ollama.com", "auto", Family.OLLAMA),
        ("api.openai.com", "auto", Family.OPENAI),
        ("notanthropic.com", "auto", Family.OPENAI),
        ("api.anthropic.com.evil.example", "auto", Family.OPENAI),
        ("10.0.0.1", "anthropic", Family.ANTHROPIC),
    ],
)
def test_the_api_is_said_or_known_by_the_name(host: str, api: str, family: Family) -> None:
    """`auto` looks at whole domains only."""
    assert _host(host=host, api=api).family is family


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"api_key_env": "KEY"}, (b"authorization", b"Bearer " + KEY.encode())),
        ({"api_key_file": "/keys/good"}, (b"authorization", b"Bearer " + KEY.encode())),
        ({"api_key_env": "KEY", "api": "anthropic"}, (b"x-api-key", KEY.encode())),
        ({"api_key_env": "KEY", "api_key_header": "API-Key"}, (b"api-key", KEY.encode())),
        ({"headers": {"X-Own": KEY}}, (b"x-own", KEY.encode())),
    ],
)
def test_where_the_key_goes(settings: dict[str, Any], field: tuple[bytes, bytes]) -> None:
    """One field carries it, and no repr shows it."""
    place = _host(**settings)
    assert place.credential == (field,)
    assert KEY not in repr(place)
    assert KEY.encode() not in place.redact(b"you sent " + KEY.encode())


@pytest.mark.parametrize(
    "settings",
    [{"api_key_env": "MISSING"}, {"api_key_env": "EMPTY"}, {"api_key_env": "ODD"}, {"api_key_file": "/keys/none"}],
)
def test_a_key_that_cannot_be_had_is_a_warning(settings: dict[str, Any]) -> None:
    """Other places still work; the warning names the source and repeats nothing of what is there."""
    config = Config(external_hosts={"paid": ExternalHost(host="api.example.com", **settings)})
    places = build_destinations(config, {"EMPTY": "", "ODD": "two\r\nlines"}, _read, shipped_profiles())
    (warning,) = missing_keys(config, places)
    assert "paid" in warning
    assert "lines" not in warning
    assert not places["paid"].credential


@pytest.mark.parametrize(
    ("settings", "path", "sent"),
    [
        ({}, "/v1/chat/completions", "/v1/chat/completions"),
        ({"path_prefix": "/api/v1"}, "/v1/chat/completions", "/api/v1/chat/completions"),
        ({"path_prefix": "/openai/deployments/{model}", "query": "api-version=1"}, "/v1/embeddings",
         "/openai/deployments/my%20model%2F1/embeddings?api-version=1"),
        ({"api": "anthropic"}, "/v1/messages", "/v1/messages"),
        ({"api": "ollama", "path_prefix": "/behind"}, "/api/chat", "/behind/api/chat"),
        ({"api": "ollama"}, "/v1/messages", "/v1/messages"),
    ],
)  # fmt: skip
def test_paths(settings: dict[str, Any], path: str, sent: str) -> None:
    """A prefix takes the place of `/v1`; the model's name in it cannot leave its segment."""
    assert _host(**settings).path_of(path, "my model/1") == sent


def test_a_host_may_be_more_patient_than_the_rest() -> None:
    """Timeouts of a host stand in for the general ones."""
    place = _host(request_timeout=900.0)
    assert (place.patience.first_byte, place.patience.connect) == (900.0, 3.0)


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("api.openai.com", "max_completion_tokens"),
        ("me.openai.azure.com", "max_completion_tokens"),
        ("vllm", "max_tokens"),
    ],
)
def test_how_the_limit_of_an_answer_is_written(host: str, key: str) -> None:
    """OpenAI's own services have a newer word for it than their look-alikes."""
    assert _host(host=host).traits.max_tokens_key == key


@pytest.mark.parametrize(
    ("settings", "native"),
    [({"host": "api.openai.com"}, True), ({"host": "vllm"}, False), ({"host": "vllm", "responses": True}, True)],
)
def test_who_has_responses_itself(settings: dict[str, Any], native: bool) -> None:
    """OpenAI's own services and hosts of which the settings say so; for others chat completions answer."""
    assert _host(**settings).traits.responses is native


@pytest.mark.parametrize(
    ("settings", "takes"),
    [
        ({"host": "api.openai.com"}, True),
        ({"host": "vllm"}, True),
        ({"host": "api.mistral.ai"}, False),
        ({"host": "api.mistral.ai", "stream_usage": True}, True),
        ({"host": "vllm", "stream_usage": False}, False),
        ({"host": "Mistral-large.eastus.models.ai.azure.com"}, False),
        ({"host": "me.openai.azure.com", "query": "api-version=2024-06-01"}, False),
        ({"host": "me.openai.azure.com", "query": "api-version=2024-10-21"}, True),
        ({"host": "me.openai.azure.com", "query": "api-version=preview"}, True),
        ({"host": "vllm", "query": "api-version=2023-05-15"}, True),
    ],
)
def test_who_is_asked_for_the_counts_of_a_stream(settings: dict[str, Any], takes: bool) -> None:
    """All but hosts that are known to refuse the whole request for it, and what the settings say."""
    assert _host(**settings).traits.stream_usage is takes


@pytest.mark.parametrize("family", Family)
def test_every_dialect_can_be_named_in_the_settings(family: Family) -> None:
    """A dialect that the router speaks and no host could be given would be of no use."""
    assert _host(host="paid", api=family.value).family is family
