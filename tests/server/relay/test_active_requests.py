"""Requests in progress: what was said of a wait, once it is over."""

from __future__ import annotations

from ollama_router_core.exchange.context import RequestContext
from ollama_router_server.relay.active_requests import ActiveRequests


def waited(seconds: float, *, expected: float = 10.0, preempted: bool = False) -> RequestContext:
    """A request whose wait is over."""
    context = RequestContext(id="1", method="POST", path="/api/chat", headers=(), started=0.0, started_at=0.0)
    context.decided, context.expected_wait_ms = seconds, expected * 1000
    context.preempted = ("one",) * preempted
    return context


def test_a_wait_is_told_with_the_range_of_those_before_it() -> None:
    """From the twentieth known wait on, and without its own; what was preempted tells nothing."""
    active = ActiveRequests()
    assert [active.remove(waited(8.0 + number % 7)) for number in range(20)] == [None] * 20
    assert active.remove(waited(90.0)) == (8.0, 13.0)
    assert active.remove(waited(11.0, preempted=True)) is None
    never = waited(0.0)
    never.expected_wait_ms = None
    assert active.remove(never) is None
