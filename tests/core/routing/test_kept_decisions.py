"""A decision in a row: small, whole enough, and only where somebody may ask."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config import load_config
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, LoadedModel, ServerFacts
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.explanation import Question
from ollama_router_core.routing.kept_decisions import LONGEST, kept_decision
from ollama_router_core.routing.selector import decide
from ollama_router_core.routing.strategies import STRATEGIES

MODEL = canonical_name("llama3.1:8b")
INSTALLED = {MODEL: InstalledModel(name=MODEL, spelling=MODEL, size=4_900_000_000, digest="aa")}


def decision_of(servers: dict[str, ServerFacts], name: str = "llama3.1:8b", **config: object) -> Decision:
    """What these servers make of a request."""
    hosts = {name: {"host": f"gpu{index}"} for index, name in enumerate(servers)}
    settings = load_config(json.dumps({"servers": hosts, **config}))
    request, _ = Question(model=name).request(settings)
    return decide(request, FleetSnapshot(servers=servers), settings, now=0.0)


def facts(name: str, *, loaded: bool = False, up: bool = True) -> ServerFacts:
    """A server that has the model on disk, or in memory, too."""
    running = {MODEL: LoadedModel(name=MODEL, size=6_000_000_000, size_vram=6_000_000_000)} if loaded else {}
    return ServerFacts(name=name, up=up, installed=INSTALLED, loaded=running, error=None if up else "refused")


def test_it_names_the_chosen_the_others_and_their_reasons() -> None:
    """With the memory that was counted on and its terms."""
    kept = json.loads(kept_decision(decision_of({"big": facts("big"), "off": facts("off", up=False)})))
    assert (kept["server"], kept["strategy"]) == ("big", "priority_with_memory")
    assert {one["server"]: one["verdict"] for one in kept["candidates"]} == {"big": "chosen", "off": "refused"}
    assert kept["candidates"][1]["reasons"][0]["code"] == "down"
    assert kept["candidates"][0]["bytes"] >= 4_900_000_000
    assert kept["others"] == {}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_keeps_what_the_chosen_server_was_expected_to_take(strategy: str) -> None:
    """Under every strategy, whether or not that decided; of a refusal there is nothing to expect."""
    kept = json.loads(kept_decision(decision_of({"big": facts("big")}, routing_strategy=strategy)))
    assert kept["expected"]["load_seconds"] > 0
    assert kept["expected"].keys() == {f"{part}_seconds" for part in ("wait", "load", "prefill", "decode")}
    refused = json.loads(kept_decision(decision_of({"off": facts("off", up=False)}, routing_strategy=strategy)))
    assert "expected" not in refused


@pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
@pytest.mark.parametrize("name", ["llama3.1:8b", "x" * 90 + ":8b"])
def test_it_is_at_most_two_kilobytes(strategy: str, name: str) -> None:
    """Of 200 servers the first few are told one by one, the others by reason; together they are all."""
    servers = {f"server-{number:03}-{'n' * 40}": facts(f"server-{number:03}", up=number > 50) for number in range(200)}
    text = kept_decision(decision_of(servers, name, routing_strategy=strategy))
    kept = json.loads(text)
    assert len(text.encode()) <= LONGEST
    assert len(kept["candidates"]) + sum(kept["others"].values()) == 200


def test_a_server_with_the_model_in_memory_is_routine() -> None:
    """Nothing was unusual, so nothing is kept; a load is kept."""
    assert decision_of({"warm": facts("warm", loaded=True)}).explanation.is_routine
    assert not decision_of({"cold": facts("cold")}).explanation.is_routine
