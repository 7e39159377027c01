"""Aliases, contexts, keep-alives, stand-ins and what must stay local."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import parse_request
from ollama_router_core.config.settings import Config, ModelSettings
from ollama_router_core.routing.policy import apply_policy, fallback_for, leaks, resolve_alias, stays_local


def applied(body, *, path="/api/chat", **settings):
    """A request after policy, with its body read again."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = parse_request(match_endpoint("POST", path), text)
    result = apply_policy(request, ModelSettings.model_validate(settings))
    return result, json.loads(result.request.body)


def rule(**fields):
    """Settings with one rule for llama3 models."""
    return {"rules": [{"pattern": "llama3*", **fields}]}


class TestContext:
    """num_ctx is pinned or clamped before it can reload anybody's model."""

    def test_pin_sets_it_for_everybody(self):
        """Asked for or not, all requests agree."""
        for options in ({}, {"options": {}}, {"options": {"num_ctx": 4096, "seed": 1}}):
            result, body = applied({"model": "llama3.1:8b", **options}, **rule(num_ctx=8192))
            assert body["options"]["num_ctx"] == 8192
            assert result.request.route.num_ctx == 8192

    @pytest.mark.parametrize(("asked", "sent"), [(1024, 2048), (4096, 4096), (131_072, 32_768)])
    def test_clamp(self, asked, sent):
        """Into the range, and said so."""
        settings = rule(min_num_ctx=2048, max_num_ctx=32_768)
        result, body = applied({"model": "llama3.1:8b", "options": {"num_ctx": asked}}, **settings)
        assert body["options"]["num_ctx"] == sent
        assert bool(result.changes) == (asked != sent)

    def test_clamp_leaves_a_default_alone(self):
        """Who asks for nothing gets the server's default."""
        _, body = applied({"model": "llama3.1:8b"}, **rule(max_num_ctx=2048))
        assert "options" not in body

    def test_the_first_rule_that_fits_holds(self):
        """Others are not looked at."""
        rules = [{"pattern": "llama3.1:8b", "num_ctx": 2048}, {"pattern": "*", "num_ctx": 4096}]
        assert applied({"model": "llama3.1:8b"}, rules=rules)[0].request.route.num_ctx == 2048
        assert applied({"model": "other"}, rules=rules)[0].request.route.num_ctx == 4096

    def test_every_other_byte_stays(self):
        """What Python could not write again is not lost."""
        body = b'{"model":"llama3","options":{"num_ctx":1,"x":1e400},"n":123456789012345678901234567890}'
        request = parse_request(match_endpoint("POST", "/api/chat"), body)
        result = apply_policy(request, ModelSettings.model_validate(rule(num_ctx=64)))
        assert result.request.body == body.replace(b'"num_ctx":1', b'"num_ctx":64')

    def test_other_dialects_have_no_context(self):
        """An OpenAI body gets no options."""
        _, body = applied({"model": "llama3", "messages": []}, path="/v1/chat/completions", **rule(num_ctx=64))
        assert "options" not in body


class TestKeepAlive:
    """One client cannot occupy a server for ever."""

    @pytest.mark.parametrize(
        ("asked", "sent"),
        [("5m", "5m"), ("24h", "600s"), (-1, "600s"), ("-1s", "600s"), (3600, "600s"), (0, 0), ("1h30m", "600s"),
         ("nonsense", "nonsense")],
    )  # fmt: skip
    def test_clamp(self, asked, sent):
        """Longer than allowed, or for ever, becomes the most allowed; what Ollama would refuse stays as it is."""
        _, body = applied({"model": "llama3", "keep_alive": asked}, **rule(max_keep_alive=600))
        assert body["keep_alive"] == sent


class TestAliases:
    """Names that mean other models."""

    def test_the_body_names_the_model_that_is_meant(self):
        """The alias never reaches a server."""
        result, body = applied({"model": "gpt-4"}, aliases={"gpt-4": "llama3.1:70b"})
        assert body["model"] == "llama3.1:70b"
        assert result.request.route.model == "llama3.1:70b"
        assert result.changes == ("model gpt-4 is an alias of llama3.1:70b",)

    def test_followed_and_compared_as_ollama_does(self):
        """An alias of an alias, in any case."""
        assert resolve_alias("GPT-4", ModelSettings(aliases={"gpt-4": "Big", "big:latest": "x"})) == "x"

    def test_a_circle_means_nothing(self):
        """The name stays what it was."""
        assert resolve_alias("a", ModelSettings(aliases={"a": "b", "b": "a"})) == "a"

    def test_rules_hold_for_the_model_that_is_meant(self):
        """Not for the alias."""
        result, _ = applied({"model": "mine"}, aliases={"mine": "llama3"}, **rule(num_ctx=64))
        assert result.request.route.num_ctx == 64


class TestFallback:
    """Off unless written."""

    def test_named_or_none(self):
        """One step, no chain."""
        settings = ModelSettings(fallbacks={"llama3.1:70b": "llama3.1:8b", "llama3.1:8b": "x"})
        assert fallback_for(canonical_name("llama3.1:70b"), settings) == "llama3.1:8b"
        assert fallback_for(canonical_name("other"), settings) is None


class TestLocalOnly:
    """What must stay at home is checked when the config loads."""

    @pytest.mark.parametrize(
        ("settings", "count"),
        [
            ({"explicit_assignments": {"secret": "openai"}}, 1),
            ({"explicit_assignments": {"secret": "home"}}, 0),
            ({"explicit_assignments": {"other": "openai"}}, 0),
            ({"aliases": {"secret": "other"}, "explicit_assignments": {"other": "openai"}}, 1),
            ({"fallbacks": {"secret": "gpt-oss:20b-cloud"}}, 1),
            ({"fallbacks": {"secret": "a"}, "aliases": {"a": "b"}, "explicit_assignments": {"b": "openai"}}, 1),
            ({"aliases": {"secret": "a", "a": "secret"}}, 0),
        ],
    )
    def test_ways_out(self, settings, count):
        """By assignment, alias or fallback, in however many steps."""
        config = Config.model_validate(
            {
                "servers": {"home": {"host": "home"}},
                "external_hosts": {"openai": {"host": "api.example.com"}},
                "model_config": {"local_only": ["secret*"], **settings},
            }
        )
        assert len(leaks(config)) == count

    def test_patterns(self):
        """A star, or a name as Ollama reads it."""
        settings = ModelSettings(local_only=("private/*", "Secret"))
        assert stays_local(canonical_name("private/x:1"), settings)
        assert stays_local(canonical_name("secret:latest"), settings)
        assert not stays_local(canonical_name("secret2"), settings)


@pytest.mark.parametrize(
    "pattern",
    [
        "secretx*",
        "library/secretx*",
        "registry.ollama.ai/library/secretx*",
        "https://registry.ollama.ai/library/SecretX*",
    ],
)
def test_local_only_matches_canonical_names(pattern: str) -> None:
    """One model, however the pattern or the request spells where it is from; other places are other models."""
    settings = ModelSettings(local_only=(pattern,))
    for name in ("secretx", "secretx:7b", "library/secretx", "registry.ollama.ai/library/SecretX:7b"):
        assert stays_local(canonical_name(name), settings), name
    assert not stays_local(canonical_name("other"), settings)
    assert not stays_local(canonical_name("team/secretx"), settings)


def test_a_pattern_of_the_default_place_is_no_pattern_of_others() -> None:
    """`library/*` is every model of the library, and no model of a team."""
    settings = ModelSettings(local_only=("library/*",))
    assert stays_local(canonical_name("llama3.1:8b"), settings)
    assert not stays_local(canonical_name("team/model"), settings)


def test_a_pattern_of_a_team_may_name_the_registry() -> None:
    """The registry alone is left out of canonical names as well."""
    settings = ModelSettings(local_only=("registry.ollama.ai/team/*",))
    assert stays_local(canonical_name("team/model"), settings)
    assert not stays_local(canonical_name("other/model"), settings)
