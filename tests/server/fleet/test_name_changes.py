"""Which servers have other names in the next config."""

from __future__ import annotations

import pytest

from ollama_router_core.config import load_config
from ollama_router_server.fleet.name_changes import name_changes
from ollama_router_server.upstream.targets import build_targets


def targets_of(ports: dict[str, int]):
    """Servers by name, each at a port of this machine."""
    rows = "\n".join(f"  {name}: {{host: 127.0.0.1, port: {port}}}" for name, port in ports.items())
    return build_targets(load_config(f"servers:\n{rows}"), {})


@pytest.mark.parametrize(
    ("before", "after", "moved", "renamed", "taken"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, set(), {}, {}),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"b"}, {}, {}),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, set(), {"c": "b"}, {}),
        ({"a": 1, "b": 2}, {"a": 1, "c": 3}, set(), {}, {}),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a", "b"}, {}, {"a": "b", "b": "a"}),
        ({"a": 1, "b": 2}, {"b": 1, "c": 2}, {"b"}, {}, {"b": "a", "c": "b"}),
    ],
    ids=["the same", "moved", "renamed", "replaced", "swapped", "handed on"],
)
def test_servers_are_known_by_their_addresses(before, after, moved, renamed, taken) -> None:
    """A name moved, a name that goes for one that comes, a name that another server has now."""
    known, targets = targets_of(before), targets_of(after)
    found = name_changes(before, after, known, targets)
    assert (set(found.moved), found.renamed, found.taken) == (moved, renamed, taken)
