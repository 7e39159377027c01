"""Hypothesis strategies: fleets, configs and requests as they may occur, odd ones included."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from support.fleets import GIB, installed, loaded, make_config, make_facts, make_fleet, make_request

MODELS = ("llama3.1:8b", "llama3.3:70b", "qwen3:30b-a3b", "nameless")
NAMES = ("a", "b", "c", "d")
STRATEGIES = ("priority_with_memory", "least_loaded", "round_robin", "fastest")

sizes = st.integers(1, 60).map(lambda gib: gib * GIB)
contexts = st.sampled_from([None, 2048, 4096, 32_768])
requests = st.builds(make_request, st.sampled_from([*MODELS, None]), num_ctx=contexts)


@st.composite
def server_facts(draw: st.DrawFn, name: str) -> ServerFacts:
    """One server: up or not, some models on disk, some of them loaded."""
    on_disk = draw(st.none() | st.lists(st.sampled_from(MODELS), unique=True))
    held = draw(st.lists(st.sampled_from(on_disk), unique=True)) if on_disk else []
    return make_facts(
        name,
        None if on_disk is None else tuple(installed(model, draw(sizes)) for model in on_disk),
        tuple(loaded(model, draw(sizes), context_length=draw(contexts)) for model in held),
        up=draw(st.sampled_from([True, True, True, False, None])),
        probe_ms=draw(st.sampled_from([None, 5.0, 5000.0])),
    )


def server_settings() -> st.SearchStrategy[dict[str, Any]]:
    """Settings of one server."""
    return st.fixed_dictionaries(
        {
            "priority": st.integers(1, 3),
            "max_memory_gb": st.sampled_from([None, 4.0, 24.0, 80.0]),
            "max_concurrent": st.sampled_from([None, 1, 4]),
            "enabled": st.sampled_from([True, True, True, False]),
        }
    )


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Config, FleetSnapshot]:
    """A config of one to four servers with what is believed about them."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    config = make_config(
        {name: draw(server_settings()) for name in names},
        routing_strategy=draw(st.sampled_from(STRATEGIES)),
        when_nothing_fits=draw(st.sampled_from(["refuse", "first_enabled"])),
    )
    snapshot = make_fleet(
        *(draw(server_facts(name)) for name in names),
        in_flight={name: draw(st.integers(0, 5)) for name in names},
        suspended={name: 100.0 for name in names if draw(st.integers(0, 5)) == 0},
        draining=frozenset(name for name in names if draw(st.integers(0, 5)) == 0),
    )
    return config, snapshot
