"""What one process learned of a server, taken over by another."""

from __future__ import annotations

import json
from typing import Any

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.fleet.rounds import Reply, Round, learned_since, moved_round, take_over
from ollama_router_core.fleet.snapshot import ModelFacts, ServerFacts
from ollama_router_core.fleet.state import FleetState
from support.fleets import installed, make_config, make_facts

VERSION = b'{"version": "0.32.0"}'
MODEL = canonical_name("m:1b")
LLAMA = ModelFacts(architecture="llama", block_count=3)
PS = {"models": [{"name": "m:1b", "size": 5, "size_vram": 5, "digest": "d1", "expires_at": "2026-01-01T00:05:00Z"}]}
JANUARY = 1_767_225_600.0


def polled(at: float = 10.0, learned: dict[str, Any] | None = None, **replies: Any) -> Round:
    """A round with answers by the last part of their path, each two seconds after it was asked for."""
    told = [Reply(f"/api/{name}", json.dumps(body).encode(), at, at + 2.0) for name, body in replies.items()]
    return Round(at, 1.5, VERSION, tuple(told), learned or {})


class Book:
    """A state as a book."""

    def __init__(self) -> None:
        self.state = FleetState(make_config({"a": {}, "b": {}}))

    @property
    def servers(self) -> Any:
        """Facts."""
        return self.state.servers

    def update(self, name: str, change: Any) -> object:
        """Swap in new ones."""
        return self.state.update(name, change, 0.0)

    def answered(self, name: str = "a", now: float = 5.0) -> None:
        """A good probe of one's own."""
        self.state.probe_answered(name, 200, VERSION, probe_ms=9.0, now=now)

    def take_over(self, found: Round) -> frozenset[str]:
        """Take a round; the wall clock was at January when the other one was at 0."""
        return take_over("a", self, found, wall=lambda at: JANUARY + at)


def test_answers_of_another_process_are_facts() -> None:
    """Its models, what is loaded and until when, as of when the server was asked."""
    book = Book()
    tags = {"models": [{"name": "m:1b", "size": 5, "digest": "d1"}]}
    assert book.take_over(polled(tags=tags, ps=PS, learned={MODEL: LLAMA})) == frozenset()
    facts = book.servers["a"]
    assert facts.installed[MODEL].facts == LLAMA
    assert (facts.installed_at, facts.loaded_at) == (12.0, 10.0)
    assert facts.loaded[MODEL].expires_at == 300.0


def test_models_that_nobody_told_of_are_named() -> None:
    """Unless another server has the same digest."""
    book = Book()
    both = {"models": [{"name": "m:1b", "size": 5, "digest": "d1"}, {"name": "n:1b", "size": 5, "digest": "d2"}]}
    assert book.take_over(polled(tags=both)) == {MODEL, canonical_name("n:1b")}
    book.update("b", lambda _: make_facts("b", (installed("o:1b", facts=LLAMA),)))
    same = {"models": [{"name": "m:1b", "size": 5, "digest": "sha256:o:1b"}]}
    assert book.take_over(polled(tags=same)) == frozenset()


def test_answers_that_fit_no_route_teach_nothing() -> None:
    """Another process may be of another version."""
    book = Book()
    before = book.servers["a"]
    book.take_over(polled(tags=[], ps={"models": 3}, nothing={}))
    assert book.servers["a"] is before


def test_only_what_is_newer_is_learned_of_a_server_that_answers_here_too() -> None:
    """Not before it was asked here, not after a probe of one's own failed, and no older probe."""
    book = Book()
    assert not book.state.polled_elsewhere("a", polled(), now=11.0)
    book.answered()
    assert not book.state.polled_elsewhere("a", polled(at=4.0), now=11.0)
    assert book.state.polled_elsewhere("a", polled(at=10.0), now=11.0)
    assert (book.servers["a"].probed_at, book.servers["a"].probe_ms) == (10.0, 1.5)
    book.state.probe_failed("a", "silent", now=12.0)
    assert not book.state.polled_elsewhere("a", polled(at=13.0), now=13.0)
    book.answered(now=14.0)
    assert book.state.polled_elsewhere("a", polled(at=15.0), now=15.0)


def test_a_clock_that_is_ahead_does_not_make_facts_of_the_future() -> None:
    """Two machines agree to a few milliseconds."""
    book = Book()
    book.answered()
    assert book.state.polled_elsewhere("a", polled(at=10.0), now=9.9)
    assert book.servers["a"].probed_at == 9.9


def test_servers_that_the_config_does_not_have_are_ignored() -> None:
    """Another process may have taken up a new config before."""
    assert not Book().state.polled_elsewhere("new", polled(), now=11.0)


def test_moments_are_translated_between_clocks() -> None:
    """Of the probe and of each answer."""
    moved = moved_round(polled(ps=PS), -4.0)
    assert (moved.at, moved.replies[0].asked, moved.replies[0].at) == (6.0, 6.0, 8.0)


def test_what_a_round_found_out_is_what_was_not_known_before_it() -> None:
    """Models whose files are the same are not told again."""
    known, new = installed("m:1b", facts=LLAMA), installed("n:1b", facts=LLAMA)
    before = make_facts("a", (known, installed("n:1b")))
    assert learned_since(before, make_facts("a", (known, new, installed("o:1b")))) == {new.name: LLAMA}
    assert learned_since(ServerFacts(name="a"), make_facts("a", (known,))) == {MODEL: LLAMA}
