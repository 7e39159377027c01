"""Profiles of hosts: those that are shipped, which one an address tells of, and what an operator's lines change."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, get_args

import pytest

from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config import ExternalHost, load_config
from ollama_router_core.config.profile_lines import ProfileName
from ollama_router_core.errors import ConfigError
from ollama_router_core.outbound.host_profiles import Profile, profile_of
from ollama_router_core.translate import ROUTES, ThinkingLevel
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES
from ollama_router_core.translate.openai.codec import OPENAI_CHAT

SHIPPED = sorted(set(get_args(ProfileName)) - {"none"})


def _profile(**settings: Any) -> Profile:
    host = ExternalHost.model_validate({"host": "api.example.com", **settings})
    return profile_of("paid", host, shipped_profiles())


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_line_has_a_page(name: ProfileName) -> None:
    """So that one who doubts it can look; the day is that of the reading."""
    lines = shipped_profiles().lines(name)
    assert lines
    for line in lines.values():
        assert re.fullmatch(r"https://\S+", line.source or "")
        assert line.read is None or dt.date.fromisoformat(line.read).year >= 2026


def test_every_profile_is_a_file_and_every_file_a_profile() -> None:
    """The names are a closed set."""
    assert sorted(shipped_profiles().texts) == sorted([*SHIPPED, "addresses"])


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("model", ["gpt-5.6", "claude-opus-5", "qwen3:32b", ""])
def test_every_profile_says_something_about_any_model(name: ProfileName, model: str) -> None:
    """Nothing in it fails for a model or a route."""
    profile = _profile(profile=name)
    for route in (*ROUTES, None):
        assert profile.facts(route, model).traits is not None


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"host": "api.openai.com"}, "openai"),
        ({"host": "eu.API.openai.com"}, "openai"),
        ({"host": "notopenai.com"}, "none"),
        ({"host": "me.openai.azure.com"}, "azure"),
        ({"host": "api.anthropic.com"}, "anthropic"),
        ({"host": "generativelanguage.googleapis.com"}, "gemini"),
        ({"host": "api.mistral.ai"}, "mistral"),
        ({"host": "api.deepseek.com"}, "deepseek"),
        ({"host": "openrouter.ai"}, "openrouter"),
        ({"host": "api.groq.com"}, "groq"),
        ({"host": "api.together.xyz"}, "together"),
        ({"host": "api.x.ai"}, "xai"),
        ({"host": "bedrock-runtime.us-west-2.amazonaws.com"}, "bedrock"),
        ({"host": "vllm-123.us-east-1.elb.amazonaws.com"}, "none"),
        ({"host": "models.github.ai"}, "github-models"),
        ({"host": "ollama.com"}, "ollama.com"),
        ({"host": "192.168.1.5", "port": 1234, "protocol": "http"}, "lm-studio"),
        ({"host": "192.168.1.5", "port": 1234}, "none"),
        ({"host": "192.168.1.5", "port": 8000, "protocol": "http"}, "none"),
    ],
)
def test_an_address_tells_of_a_profile(settings: dict[str, Any], name: str) -> None:
    """A provider's domain, or a port that one engine alone has by default, on a plain HTTP server."""
    profile = _profile(**settings)
    assert (profile.name, profile.guessed) == (name, True)


def test_a_profile_that_is_named_is_not_guessed() -> None:
    """`none` is a profile, too: an operator's wish that nothing be changed."""
    assert (_profile(host="api.openai.com", profile="vllm").name, _profile(profile="vllm").guessed) == ("vllm", False)
    assert not _profile(host="api.openai.com", profile="none").lines


def test_an_operators_lines_and_where_they_stand() -> None:
    """One of a shipped name replaces that line in its place, another comes last, and each says where it stands."""
    profile = _profile(
        profile={
            "base": "lm-studio",
            "without": ["conversation", "system_messages"],
            "lines": {"json": {"drop": ["response_format"]}, "mine": {"set": {"seed": 1}}},
        },
        max_tokens_key="max_completion_tokens",
    )
    assert [(line.name, line.defined_in) for line in profile.lines] == [
        ("json", "external_hosts.paid.profile.lines.json"),
        ("mine", "external_hosts.paid.profile.lines.mine"),
        ("settings", "external_hosts.paid"),
    ]
    assert profile.facts(OPENAI_CHAT, "x").traits.max_tokens_key == "max_completion_tokens"


def test_lines_are_chosen_by_model_and_route() -> None:
    """What is about one model is not about another."""
    profile = _profile(host="api.anthropic.com")
    new, old = (profile.facts(ANTHROPIC_MESSAGES, model) for model in ("claude-opus-4-7", "claude-3-5-sonnet-20241022"))
    assert new.traits.thinking[ThinkingLevel.HIGH]["output_config"] == {"effort": "high"}
    assert not old.traits.thinking
    assert not new.rules.messages.prefill
    assert old.rules.messages.prefill
    assert new is profile.facts(ANTHROPIC_MESSAGES, "claude-opus-4-7")


def test_a_deployment_is_known_by_the_name_that_clients_use() -> None:
    """Its owner's name for it says nothing about the model."""
    facts = _profile(profile="azure").facts(OPENAI_CHAT, "my-deployment", "gpt-5")
    assert facts.rules.concern({"temperature": 1}.keys())
    assert not _profile(profile="azure").facts(OPENAI_CHAT, "my-deployment").rules.concern({"temperature": 1}.keys())


def test_a_request_that_no_line_is_about_is_told_at_once() -> None:
    """By the names of its members alone."""
    rules = _profile(profile="openai").facts(OPENAI_CHAT, "gpt-4o").rules
    assert not rules.concern({"model": 1, "messages": 1, "temperature": 1, "stream": 1}.keys())
    assert rules.concern({"model": 1, "reasoning_effort": 1}.keys())


def test_what_is_remembered_is_bounded() -> None:
    """A client cannot fill the memory with names."""
    profile = _profile(host="api.openai.com")
    for number in range(2000):
        profile.facts(OPENAI_CHAT, f"gpt-{number}")
    assert len(profile._facts) <= 256


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("profile: openia", "openai"),
        ("profile: {lines: {mine: {dorp: [seed]}}}", "did you mean 'drop'"),
        ("profile: {lines: {mine: {drop: ['a b']}}}", "name of a member"),
        ("profile: {lines: {mine: {models: ['gpt-{5}']}}}", "pattern"),
    ],
)
def test_a_mistake_in_a_line_is_told_with_its_place(profile: str, message: str) -> None:
    """As any other of the config is."""
    with pytest.raises(ConfigError) as raised:
        load_config(f"external_hosts:\n  paid:\n    host: api.example.com\n    {profile}\n")
    (problem,) = raised.value.problems
    assert message in str(problem)
    assert "line 4" in str(problem) or "4" in str(problem)
