"""What loads took beside what was computed for them."""

from __future__ import annotations

from typing import Any

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.snapshot import LoadedModel, ServerFacts
from ollama_router_server.admin.views.server_memory import accuracy_of
from ollama_router_server.fleet.measured_loads import MeasuredLoads

HOST = Server(host="127.0.0.1")


class Sizes:
    """Everything was to take 100 bytes, unless nobody knows."""

    def find(self, row: LoadedModel, *_: Any) -> int | None:
        """The same for all."""
        return None if row.name == "odd:1b" else 100


def facts(**loaded: int) -> ServerFacts:
    """A server with models of these sizes in memory."""
    names = {CanonicalName(f"{name}:1b"): size for name, size in loaded.items()}
    rows = {
        name: LoadedModel(name=name, size=size, size_vram=size, context_length=4_096) for name, size in names.items()
    }
    return ServerFacts(name="big", loaded=rows)


def test_a_load_is_noted_once_each_time() -> None:
    """Not while the model stays, again when it comes back; not what is not measured yet or cannot be computed."""
    loads = MeasuredLoads(Sizes(), lambda: 7.0)  # type: ignore[arg-type]
    for seen in (facts(a=103), facts(a=103, odd=5), facts(b=0), facts(b=90), facts(a=104, b=90)):
        loads.look(seen, HOST)
    assert [(one.model, one.measured) for one in loads.of("big")] == [("a:1b", 104), ("b:1b", 90), ("a:1b", 103)]
    assert accuracy_of(loads.of("big")) == "Memory within 4 % of what was computed for 2 of 3 loads."
    assert (loads.of("other"), accuracy_of(())) == ((), None)


def test_a_hundred_loads_are_kept() -> None:
    """The newest."""
    loads = MeasuredLoads(Sizes(), lambda: 7.0)  # type: ignore[arg-type]
    for number in range(1, 150):
        loads.look(facts(a=number), HOST)
        loads.look(facts(), HOST)
    assert [one.measured for one in loads.of("big")] == [*range(149, 49, -1)]


def test_loads_of_servers_that_are_gone_are_forgotten() -> None:
    """One of the same name that comes later begins anew."""
    loads = MeasuredLoads(Sizes(), lambda: 7.0)  # type: ignore[arg-type]
    loads.look(facts(a=103), HOST)
    loads.reconfigure({"big"})
    assert len(loads.of("big")) == 1
    loads.reconfigure({"other"})
    assert loads.of("big") == ()
    loads.look(facts(a=103), HOST)
    assert len(loads.of("big")) == 1
