"""Snapshots: swapped whole, never changed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import InstalledModel, ServerFacts, stubs
from ollama_router_core.fleet.state import FleetState


def test_a_new_fact_makes_a_new_snapshot() -> None:
    """Who still reads the old one sees the old one."""
    state = FleetState(Config(servers={"a": {"host": "a"}, "b": {"host": "b"}}))
    state.begin("a")
    old = state.snapshot(0.0)
    state.update("a", lambda facts: replace(facts, up=True), 0.0)
    new = state.snapshot(0.0)
    assert old.servers["a"].up is None
    assert new.servers["a"].up is True
    assert set(new.servers) == {"a", "b"}
    assert new.in_flight == {"a": 1}


def test_snapshots_cannot_be_written_to() -> None:
    """Readers need no lock because nothing they hold can change."""
    fleet = FleetState(Config(servers={"a": {"host": "a"}})).snapshot(0.0)
    with pytest.raises(TypeError):
        fleet.servers["b"] = ServerFacts(name="b")  # type: ignore[index]
    with pytest.raises(AttributeError):
        fleet.servers["a"].up = True  # type: ignore[misc]


def test_nothing_is_known_of_a_new_server() -> None:
    """Not asked yet is not the same as down, and no list of models is not an empty list."""
    facts = ServerFacts(name="a")
    assert facts.up is None
    assert facts.installed is None
    assert facts.loaded == {}


def test_stubs_are_the_models_that_some_server_knows_as_hosted_ones() -> None:
    """A server that has the model itself changes nothing."""
    names = [canonical_name(text) for text in ("here", "hosted:cloud", "both")]
    here, hosted, both = names
    row = InstalledModel(name=here, spelling="x", size=1, digest="d")
    far = replace(row, remote_host="https://ollama.com:443")
    servers = {
        "a": ServerFacts(name="a"),
        "b": ServerFacts(name="b", installed={here: row, both: replace(row, name=both)}),
        "c": ServerFacts(
            name="c",
            installed={hosted: replace(far, name=hosted), both: replace(far, name=both)},
        ),
    }
    assert stubs(servers) == {hosted, both}
