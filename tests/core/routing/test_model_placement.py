"""Where requests about models as files go."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config import Config, load_config
from ollama_router_core.errors import InvalidTarget, NoServerFits
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, LoadedModel, ServerFacts
from ollama_router_core.routing.model_placement import (
    Everywhere,
    Named,
    Unsaid,
    WhereItFits,
    differing_digests,
    hosted_ranking,
    loaded_on,
    owners,
    read_target,
    servers_by_priority,
    servers_for_target,
)

MODEL = canonical_name("llama3.1:70b")
ASKED = RouteRequest(model_text="llama3.1:70b", model=MODEL)


def config(**servers: dict[str, Any]) -> Config:
    """A config with these servers."""
    entries = {name: {"host": name, **settings} for name, settings in servers.items()}
    return load_config(json.dumps({"servers": entries}))


def facts(
    name: str, digest: str | None = None, *, up: bool = True, version: str | None = "0.32.15", loaded: bool = False
) -> ServerFacts:
    """A server that has the model with this digest, if any is given."""
    installed = {MODEL: InstalledModel(name=MODEL, spelling=MODEL, size=1, digest=digest)} if digest else {}
    held = {MODEL: LoadedModel(name=MODEL, size=1, size_vram=1)} if loaded else {}
    return ServerFacts(name=name, up=up, version=version, installed=installed, loaded=held)


def fleet(*servers: ServerFacts) -> FleetSnapshot:
    """A snapshot of these servers."""
    return FleetSnapshot(servers={one.name: one for one in servers})


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (None, Unsaid()),
        (" ", Unsaid()),
        ("all", Everywhere()),
        ("where-it-fits", WhereItFits()),
        ("b", Named(("b",))),
        ("b, a,b", Named(("b", "a"))),
    ],
)
def test_a_target_is_a_word_or_names(text: str | None, target: object) -> None:
    """Each name once, in the client's order."""
    assert read_target(text, config(a={}, b={})) == target


def test_a_name_may_have_commas() -> None:
    """It is found beside others, and beside one that is its beginning."""
    servers = {name: {"host": host} for name, host in {"a": "a", "rack 1/a,0": "b", "rack 1/a": "c"}.items()}
    named = read_target("rack 1/a,0, a,rack 1/a", config(**servers))
    assert named == Named(("rack 1/a,0", "a", "rack 1/a"))


@pytest.mark.parametrize("text", ["c", "a,c", "a,", "off", "ALL"])
def test_an_unknown_or_disabled_server_is_no_target(text: str) -> None:
    """The text lists what can be named."""
    with pytest.raises(InvalidTarget, match="enabled servers: a"):
        read_target(text, config(a={}, off={"enabled": False}))


def test_holders_are_all_that_are_believed_to_have_it() -> None:
    """One that is down still has its files."""
    snapshot = fleet(facts("a", "x"), facts("b", "x", up=False), facts("c"))
    assert owners(snapshot, MODEL) == ("a", "b")


def test_an_unload_goes_where_it_is_loaded() -> None:
    """Not where it merely is on disk."""
    assert loaded_on(fleet(facts("a", "x"), facts("b", "x", loaded=True)), MODEL) == ("b",)


def test_the_home_depends_on_nothing_but_config_and_who_is_up() -> None:
    """So that a restarted router finds the same one."""
    settings = config(a={"priority": 2}, b={}, c={})
    assert servers_by_priority(fleet(facts("c"), facts("a"), facts("b", up=False)), settings) == ("c", "a")


def test_a_new_model_goes_where_it_fits_best() -> None:
    """Priority first, then the smallest that is large enough, so that large ones stay free for large models."""
    settings = config(small={"max_memory_gb": 8}, mid={"max_memory_gb": 64}, big={"max_memory_gb": 640})
    snapshot = fleet(facts("small"), facts("mid"), facts("big"))
    assert servers_for_target(WhereItFits(), ASKED, snapshot, settings) == ("mid",)
    assert servers_for_target(Unsaid(), ASKED, snapshot, settings) == ("mid",)


def test_a_model_that_is_somewhere_is_updated_there() -> None:
    """Unsaid means: no new copies, and no old ones left behind."""
    settings = config(a={}, b={}, c={})
    snapshot = fleet(facts("a", "x"), facts("b", "x"), facts("c"))
    assert servers_for_target(Unsaid(), ASKED, snapshot, settings) == ("a", "b")
    assert servers_for_target(Everywhere(), ASKED, snapshot, settings) == ("a", "b", "c")


def test_a_model_that_fits_nowhere_is_told_with_numbers() -> None:
    """Rather than put where it can never run."""
    with pytest.raises(NoServerFits, match=r"a needs .* GiB, limit 8.0 GiB"):
        servers_for_target(Unsaid(), ASKED, fleet(facts("a")), config(a={"max_memory_gb": 8}))


def test_a_hosted_model_needs_a_stub_or_a_new_server() -> None:
    """Older servers only know what they pulled."""
    snapshot = fleet(facts("a", version="0.12.0"), facts("b"), facts("c", "x", version="0.12.0"))
    assert hosted_ranking(MODEL, snapshot, config(a={}, b={}, c={})) == ("c", "b")


@pytest.mark.parametrize(
    ("version", "sends_on"),
    [
        *[(version, True) for version in ("0.17.6", "0.17.10", "0.18.0-rc1", "1.0", "0.17.6.1")],
        *[(version, False) for version in ("0.17.5", "0.16.9", "0.9.20", None, "", "main")],
    ],
)
def test_a_server_sends_hosted_models_on_from_0_17_6(version: str | None, sends_on: bool) -> None:
    """Versions are compared number by number; one that is not told counts as old."""
    ranking = hosted_ranking(MODEL, fleet(facts("a", version=version)), config(a={}))
    assert ranking == (("a",) if sends_on else ())


def test_one_name_for_different_models_is_found() -> None:
    """Operators see who differs."""
    snapshot = fleet(facts("a", "x"), facts("b", "y"), facts("c", "x"))
    assert differing_digests(snapshot) == {MODEL: {"x": ("a", "c"), "y": ("b",)}}
    assert differing_digests(fleet(facts("a", "x"), facts("c", "x"))) == {}
