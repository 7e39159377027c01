"""Names under which servers hold different weights."""

from __future__ import annotations

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.snapshot import InstalledModel, ServerFacts
from ollama_router_server.fleet.differing_models import DifferingModels


def facts(server: str, **digests: str) -> ServerFacts:
    """A server with models of these digests."""
    names = [(CanonicalName(f"{name}:1b"), digest) for name, digest in digests.items()]
    rows = [InstalledModel(name=name, spelling=name, size=1, digest=digest) for name, digest in names]
    return ServerFacts(name=server, installed={row.name: row for row in rows})


def test_what_differs_is_found_until_a_list_changes() -> None:
    """And a server that has not told its list differs from none."""
    models = DifferingModels()
    one, other = facts("one", a="1", b="2"), facts("other", a="1", b="3")
    found = models.find({"one": one, "other": other, "new": ServerFacts(name="new")})
    assert set(found) == {"b:1b"}
    assert models.find({"one": one, "other": other, "new": ServerFacts(name="new")}) is found
    assert not models.find({"one": one, "other": facts("other", a="1", b="2")})
