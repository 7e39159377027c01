"""The half of a request that does no I/O: what a driver has to wait for, and what it hands to the program."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ollama_router_core import MemorySink
from ollama_router_core.client.tasks import Call, Query
from ollama_router_core.client.transport_state import State
from ollama_router_core.exchange.actions import AwaitHead, Outgoing, Receive, Release, WriteHead
from ollama_router_core.exchange.asking import ask_all, own_request
from ollama_router_core.exchange.events import Arrival, Piece
from ollama_router_core.fleet.observations import observe_tags
from ollama_router_core.testing import FakeFleet

TAGS = b'{"models": [{"name": "llama3.1:8b", "size": 1, "digest": "d"}]}'


class Upstream:
    """An upstream that a test answers by hand."""

    def __init__(self, request: Outgoing) -> None:
        self.request = request
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.connect_seconds = 0.0


@pytest.fixture
def sink() -> MemorySink:
    """For records."""
    return MemorySink()


@pytest.fixture
def state(fleet: FakeFleet, clock: Any, sink: MemorySink) -> State:
    """A transport's state that knows where the model is."""
    state = State(fleet.config, environment={}, sink=sink, clock=clock)
    for name in ("a", "b"):
        state.fleet.probe_answered(name, 200, b'{"version": "0.32.0"}', seconds=0.01)
        state.fleet.update(name, lambda facts: observe_tags(facts, body=TAGS, now=clock.now))
    return state


def _open(_: object, request: Outgoing) -> Upstream:
    return Upstream(request)


def _call(state: State, method: str, path: str, body: bytes = b"", **extensions: Any) -> Call:
    request = httpx.Request(method, f"http://router{path}", content=body, extensions=extensions)
    return Call(state, httpx, _open, request, body, lambda: None)


CHAT = b'{"model": "llama3.1:8b", "messages": [], "stream": false}'


def test_a_call_waits_writes_and_leaves_a_record(state: State, sink: MemorySink) -> None:
    """A whole answer's pieces, its head, its body: output comes before the next wait, the record when all is over."""
    call = _call(state, "POST", "/api/chat", CHAT)
    wait = call.resume()
    assert isinstance(wait, AwaitHead)
    upstream: Any = wait.upstream
    assert (upstream.request.target, upstream.request.body) == ("/api/chat", CHAT)
    upstream.status, upstream.headers = 200, [(b"content-type", b"application/json")]
    assert isinstance(call.resume(True), Receive)
    assert isinstance(call.resume(Piece(b"{}", complete=False)), Receive)
    assert isinstance(call.resume(Piece(b"", complete=True)), WriteHead)
    assert call.advance() == b"{}"
    assert isinstance(call.advance(), Release)
    assert not sink.records
    assert call.resume() is None
    assert [(row.status, row.bytes_out) for row in sink.records] == [(200, 2)]


def test_an_answer_made_here_needs_no_wait(state: State) -> None:
    """Its head and body are there at once."""
    call = _call(state, "POST", "/api/chat", b"{}")
    head = call.resume()
    assert isinstance(head, WriteHead)
    assert head.status == 400
    assert b"error" in bytes(call.advance() or b"")  # type: ignore[arg-type]
    assert call.advance() is None
    assert call.exception is None


def test_giving_up_releases_and_records_once(state: State, sink: MemorySink) -> None:
    """A program that leaves is 499; giving up again, or after the end, does nothing."""
    call = _call(state, "POST", "/api/chat", CHAT)
    assert isinstance(call.resume(), AwaitHead)
    assert isinstance(call.give_up(), Release)
    assert call.resume() is None
    assert call.give_up() is None
    assert [row.status for row in sink.records] == [499]
    assert not any(state.fleet.snapshot.in_flight.values())


def test_the_programs_timeouts_count_but_not_for_what_has_to_be_short(state: State) -> None:
    """Connecting is bounded by the config, and a question of one second stays one of one second."""
    call = _call(state, "GET", "/api/tags", timeout={"connect": 60.0, "read": 600.0, "write": None})
    destination = state.environment.destinations["a"]
    assert call.timeouts(destination, destination.patience) == {
        "connect": state.config.connect_timeout, "read": 600.0, "write": 600.0, "pool": state.config.connect_timeout,
    }  # fmt: skip
    brief = own_request(state.environment, "a", "GET", "/api/tags", seconds=1.0)
    assert call.timeouts(brief.destination, brief.patience)["read"] == 1.0


def test_a_query_gives_what_its_steps_return(state: State) -> None:
    """Questions of the transport's own go the same way as requests."""
    request = own_request(state.environment, "a", "GET", "/api/version")
    query = Query(state, httpx, _open, ask_all(state.environment, (request,)))
    wait: Any = query.resume()
    wait.upstreams[0].status = 200
    release = query.resume(Arrival(wait.upstreams[0], Piece(b"{}", complete=True)))
    assert isinstance(release, Release)
    assert query.resume() is None
    assert query.value is not None
    assert [getattr(reply, "body", None) for reply in query.value] == [b"{}"]


def test_a_query_that_is_given_up_ends_quietly(state: State) -> None:
    """What it opened is released first."""
    request = own_request(state.environment, "a", "GET", "/api/version")
    query = Query(state, httpx, _open, ask_all(state.environment, (request,)))
    query.resume()
    assert isinstance(query.give_up(), Release)
    assert query.resume() is None
    assert query.value is None
