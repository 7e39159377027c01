"""The whole decision: assignments, refusals, what happens when nothing fits, and the trace."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.errors import ModelIncapable, ModelNotFound, ModelTooLarge, NoServerFits
from ollama_router_core.routing.selector import ServerSelector, decide
from support.fleets import (
    GIB,
    LLAMA_70B,
    SIZE_70B,
    installed,
    make_config,
    make_facts,
    make_fleet,
    make_request,
)

HAS_8B = (installed("llama3.1:8b"),)


def assigned(model, target, **more):
    """A config with two servers and one external host that assigns one model."""
    return make_config(
        {"a": {}, "b": more.pop("b", {})},
        external_hosts={"openai": {"host": "api.example.com", **more.pop("openai", {})}},
        model_config={"explicit_assignments": {model: target}},
        **more,
    )


class TestPinned:
    """A request that names its server goes there or nowhere."""

    def test_beats_the_ranking_and_an_assignment(self):
        """The others say why not they; without the name the same kind of request goes where it did."""
        fleet = make_fleet(make_facts("a", HAS_8B), make_facts("b", HAS_8B))
        for config in (make_config({"a": {}, "b": {"priority": 9}}), assigned("llama3.1:8b", "a")):
            selector = ServerSelector(config)
            decisions = [selector.decide(make_request(pin=pin), fleet, now=0.0) for pin in (None, "b", None)]
            assert [decision.ranking[0] for decision in decisions] == ["a", "b", "a"]
            assert decisions[1].ranking == ("b",)
            assert next(one for one in decisions[1].verdicts if one.server == "a").reasons[0].code == "pinned"

    def test_a_server_that_cannot_is_the_reason(self):
        """As if there were no other."""
        fleet = make_fleet(make_facts("a", HAS_8B), make_facts("b", ()))
        assert isinstance(
            decide(make_request(pin="b"), fleet, make_config({"a": {}, "b": {}}), now=0.0).error, ModelNotFound
        )
        fleet = make_fleet(make_facts("a", HAS_8B), make_facts("b", HAS_8B, up=False))
        error = decide(make_request(pin="b"), fleet, make_config({"a": {}, "b": {}}), now=0.0).error
        assert isinstance(error, NoServerFits)
        assert "a is not asked" not in error.message
        config = make_config({"a": {}, "b": {}}, when_nothing_fits="first_enabled")
        assert decide(make_request(pin="b"), fleet, config, now=0.0).ranking == ("b",)


class TestAssignment:
    """An explicit assignment short-circuits everything else and says so."""

    def test_to_a_server_that_would_lose(self):
        """Even one that is down: the operator said so."""
        fleet = make_fleet(make_facts("a", HAS_8B), make_facts("b", (), up=False))
        decision = decide(make_request(), fleet, assigned("llama3.1:8b", "b"), now=0.0)
        assert decision.ranking == ("b",)
        assert decision.strategy == "explicit_assignment"
        assert "assignment" in decision.reason

    def test_to_an_external_host(self):
        """The only way to an external host."""
        decision = decide(make_request("gpt-4o"), make_fleet(), assigned("gpt-4o", "openai"), now=0.0)
        assert decision.server == "openai"
        assert {verdict.verdict for verdict in decision.verdicts} == {"chosen", "skipped"}

    def test_names_compare_as_ollama_does(self):
        """An assignment of `LLAMA3` holds for `llama3:latest`."""
        fleet = make_fleet(make_facts("a", (installed("llama3"),)))
        decision = decide(make_request("llama3:latest"), fleet, assigned("LLAMA3", "b"), now=0.0)
        assert decision.server == "b"

    def test_to_a_disabled_target_leaves_the_model_to_the_strategy(self):
        """As in the original."""
        fleet = make_fleet(make_facts("a", HAS_8B), make_facts("b", HAS_8B))
        decision = decide(make_request(), fleet, assigned("llama3.1:8b", "b", b={"enabled": False}), now=0.0)
        assert decision.server == "a"

    def test_never_leads_elsewhere(self):
        """External hosts are skipped without one, and the trace says why."""
        decision = decide(make_request(), make_fleet(make_facts("a", HAS_8B)), assigned("x", "openai"), now=0.0)
        external = next(verdict for verdict in decision.verdicts if verdict.server == "openai")
        assert external.verdict == "skipped"
        assert "assignment" in external.text


class TestNothingFits:
    """No guess: an error that lists every server, with the status that fits."""

    def test_no_server_has_the_model(self):
        """404, in Ollama's words."""
        fleet = make_fleet(make_facts("a", ()), make_facts("b", ()))
        decision = decide(make_request(), fleet, make_config({"a": {}, "b": {}}), now=0.0)
        assert isinstance(decision.error, ModelNotFound)
        assert str(decision.error) == "model 'llama3.1:8b' not found"
        assert decision.ranking == ()

    def test_it_is_too_large_for_every_server_that_has_it(self):
        """400 with each server and its reason: coming back does not help, a smaller context may."""
        fleet = make_fleet(make_facts("a", ()), make_facts("b", HAS_8B))
        decision = decide(make_request(), fleet, make_config({"a": {}, "b": {"max_memory_gb": 1.0}}), now=0.0)
        assert isinstance(decision.error, ModelTooLarge)
        assert "a does not have the model" in str(decision.error)
        assert "limit 1.0 GiB" in str(decision.error)
        assert "num_ctx" in str(decision.error)

    @pytest.mark.parametrize(
        ("asked", "limits", "said"),
        [
            (131_072, {"mid": 44.0, "big": 56.0}, "; at 32k context (num_ctx 32768) it fits on big"),
            (32_768, {"mid": 45.0, "big": 48.0}, "; at 16k context (num_ctx 16384) it fits on big"),
            (32_768, {"mid": 24.0, "big": 40.0}, "; use a smaller context (num_ctx) or another model"),
            (4_096, {"big": 40.0}, "; use a smaller context (num_ctx) or another model"),
            (None, {"big": 40.0}, "; use a smaller context (num_ctx) or another model"),
        ],
    )
    def test_the_largest_usual_context_that_fits_is_told(self, asked: int | None, limits: dict[str, float], said: str):
        """With the server that it fits on, as the same estimate has it; none is named where none fits."""
        models = (installed("llama3.1:70b", SIZE_70B, facts=LLAMA_70B),)
        fleet = make_fleet(*(make_facts(name, models) for name in limits))
        config = make_config({name: {"max_memory_gb": limit} for name, limit in limits.items()})
        error = decide(make_request("llama3.1:70b", num_ctx=asked), fleet, config, now=0.0).error
        assert isinstance(error, ModelTooLarge)
        assert error.message.endswith(said)

    @pytest.mark.parametrize("away", [{"up": False}, {"up": None}])
    def test_one_that_is_away_may_be_large_enough(self, away: dict[str, bool | None]):
        """503 with Retry-After: it may come back."""
        fleet = make_fleet(make_facts("a", HAS_8B), make_facts("b", HAS_8B, **away))
        decision = decide(make_request(), fleet, make_config({"a": {"max_memory_gb": 1.0}, "b": {}}), now=0.0)
        assert isinstance(decision.error, NoServerFits)
        assert "limit 1.0 GiB" in str(decision.error)
        assert decision.error.retry_after is not None

    def test_retry_after_is_when_the_breaker_lets_the_first_one_back(self):
        """12 seconds are left, so 12 it is; never more than 30."""
        for until, after in ((42.0, 12.0), (500.0, 30.0)):
            fleet = make_fleet(make_facts("a", HAS_8B), suspended={"a": until})
            assert decide(make_request(), fleet, make_config({"a": {}}), now=30.0).error.retry_after == after

    def test_a_server_that_was_never_reached_does_not_hide_a_typo(self):
        """404 as soon as all that answered lack it, with who could not be asked; 503 where nobody has answered."""
        fleet = make_fleet(make_facts("a", ()), make_facts("b", None, up=False))
        decision = decide(make_request(), fleet, make_config({"a": {}, "b": {}}), now=0.0)
        assert isinstance(decision.error, ModelNotFound)
        assert decision.error.unasked == ("b",)
        alone = decide(make_request(), make_fleet(make_facts("b", None, up=False)), make_config({"b": {}}), now=0.0)
        assert isinstance(alone.error, NoServerFits)

    def test_the_model_cannot_do_it_anywhere(self):
        """400: asking again will not help."""
        models = (installed("llama3.1:8b", capabilities=frozenset({"completion"})),)
        request = make_request(needs=frozenset({"completion", "tools"}))
        decision = decide(request, make_fleet(make_facts("a", models)), make_config({"a": {}}), now=0.0)
        assert isinstance(decision.error, ModelIncapable)

    def test_no_server_at_all(self):
        """An empty config is a 503 that says so."""
        decision = decide(make_request(), make_fleet(), make_config({}), now=0.0)
        assert isinstance(decision.error, NoServerFits)
        assert "no server is configured" in str(decision.error)

    def test_first_enabled_brings_back_the_original(self):
        """The first enabled server as written, even one that cannot hold the model."""
        config = make_config(
            {"z": {"enabled": False}, "y": {"max_memory_gb": 1.0}, "a": {"max_memory_gb": 1.0}},
            when_nothing_fits="first_enabled",
        )
        fleet = make_fleet(*(make_facts(name, HAS_8B) for name in "zya"))
        decision = decide(make_request(), fleet, config, now=0.0)
        assert decision.ranking == ("y",)
        assert "first enabled" in decision.reason
        assert sorted(verdict.server for verdict in decision.verdicts) == ["a", "y", "z"]


class TestTrace:
    """What library, command line and HTTP show."""

    def test_json_has_every_server_with_its_reasons(self):
        """One candidate a server, with code, text and memory terms."""
        fleet = make_fleet(make_facts("a", HAS_8B), make_facts("b", (installed("llama3.1:8b", 30 * GIB),)))
        config = make_config({"a": {}, "b": {"max_memory_gb": 8.0}})
        shown = json.loads(json.dumps(decide(make_request(), fleet, config, now=0.0).to_json()))
        assert shown["server"] == "a"
        assert [one["server"] for one in shown["candidates"]] == ["a", "b"]
        assert shown["candidates"][1]["reasons"][0]["code"] == "memory"
        assert shown["candidates"][1]["memory"]["terms"][0]["bytes"] == 30 * GIB

    def test_a_request_without_a_model_goes_to_any_server(self):
        """Such routes need no model and the default memory."""
        decision = decide(make_request(None), make_fleet(make_facts("a", ())), make_config({"a": {}}), now=0.0)
        assert decision.server == "a"
