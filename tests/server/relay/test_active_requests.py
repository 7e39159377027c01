"""Requests in progress: what was said of a wait, once it is over."""

from __future__ import annotations

from types import SimpleNamespace

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.requests import RouteRequest
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


def test_a_request_tells_whose_token_asks_and_what_is_written() -> None:
    """Of a person who asks with the own token nobody else is told; tokens are told where an answer has any."""
    active = ActiveRequests()
    bot, ann = SimpleNamespace(name="bot"), SimpleNamespace(name="ann")
    for user, speaker, path in [(ann, bot, "/api/chat"), (bot, bot, "/api/chat"), (ann, None, "/api/embed")]:
        context = waited(0.0)
        context.id, context.user, context.speaker = path + user.name, user, speaker  # type: ignore[assignment]
        context.endpoint, context.route = match_endpoint("POST", path).endpoint, RouteRequest()
        active.add(SimpleNamespace(exchange=SimpleNamespace(context=context), rank=0))  # type: ignore[arg-type]
    shown = active.to_json(1.0)
    assert [(one["user"], one["speaker"], one["tokens"]) for one in shown] == [
        ("ann", "bot", 0),
        ("bot", None, 0),
        ("ann", None, None),
    ]
