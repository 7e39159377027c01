"""What a process keeps for those that come, and takes over as it comes."""

from __future__ import annotations

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config.settings import Config
from ollama_router_core.coordination.in_process import InProcess
from ollama_router_core.fleet.state import FleetState
from ollama_router_server.fleet.sharing import FleetSharing

MODEL = canonical_name("llama3.1:8b")
CONFIG = Config.model_validate({"servers": {"a": {"host": "gpu1"}}})


class Process:
    """One member's fleet, at a time that is set by hand."""

    def __init__(self, group: InProcess, index: int) -> None:
        self.now = 100.0
        self.state = FleetState(CONFIG)
        self.sharing = FleetSharing(self.state, group.member(index), lambda: self.now)


def test_one_process_keeps_what_it_believes_every_ten_seconds() -> None:
    """Not every one of them, and not four times a second."""
    group = InProcess("router", b"s" * 32, size=2)
    first, second = Process(group, 0), Process(group, 1)
    second.sharing.remember()
    assert group.summary is None
    first.sharing.remember()
    kept = group.summary
    assert kept is not None
    first.state.holds("a", MODEL, 7, 500)
    first.now += 9.9
    first.sharing.remember()
    assert group.summary is kept
    first.now += 0.2
    first.sharing.remember()
    assert group.summary is not None
    assert [one.conversation for one in group.summary.held] == [7]


def test_a_process_that_comes_takes_over_what_is_kept() -> None:
    """Nothing where nothing is, or where it is alone."""
    group = InProcess("router", b"s" * 32, size=2)
    first, second = Process(group, 0), Process(group, 1)
    second.sharing.recall()
    first.state.holds("a", MODEL, 7, 500)
    first.sharing.remember()
    second.sharing.recall()
    assert second.state.prefixes.of(7) == first.state.prefixes.of(7)
    alone = InProcess("router", b"s" * 32)
    alone.summary = group.summary
    only = Process(alone, 0)
    only.sharing.recall()
    assert len(only.state.prefixes) == 0
