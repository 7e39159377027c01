"""Trying servers in turn: what is tried again, what never is, and what the client is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ollama_router_core.errors import ConnectFailed, NoServerFits, UpstreamDisconnected
from ollama_router_core.routing.forwarding import (
    REJECTIONS,
    Answered,
    Broken,
    Forwarding,
    ForwardingLimits,
    GiveUp,
    Lost,
    Outcome,
    Rejected,
    Relay,
    SendTo,
    Unable,
    Unreachable,
    forward,
    outcome_of_status,
)


def drive(forwarding: Forwarding, outcomes: Sequence[Outcome]) -> tuple[list[SendTo], Relay | GiveUp]:
    """Answer each attempt with the next outcome until the generator returns."""
    sent = [next(forwarding)]
    try:
        for outcome in outcomes:
            sent.append(forwarding.send(outcome))  # noqa: PERF401 - a generator would swallow the StopIteration
    except StopIteration as stop:
        return sent, stop.value
    raise AssertionError(f"still going after {sent}")


def refused(seconds: float = 0.1) -> Unreachable:
    """A connection that did not come about."""
    return Unreachable(ConnectFailed("connection refused by a"), seconds)


def test_the_first_answer_is_relayed() -> None:
    """Whatever its status: a 500 is the server's answer, and asking another could run the request twice."""
    for status in (200, 400, 404, 500):
        assert drive(forward(["a", "b"]), [Answered(status)]) == ([SendTo("a", 1)], Relay("a", 1))


def test_an_unreachable_server_is_followed_by_the_next() -> None:
    """Nothing was sent, so nothing can run twice."""
    sent, end = drive(forward(["a", "b"]), [refused(), Answered(200)])
    assert sent == [SendTo("a", 1), SendTo("b", 2)]
    assert end == Relay("b", 2)


@pytest.mark.parametrize("status", sorted(REJECTIONS))
def test_a_server_that_is_full_is_followed_by_the_next(status: int) -> None:
    """429, 503 and 529 say that the request was not started."""
    assert drive(forward(["a", "b"]), [outcome_of_status(status), Answered(200)])[1] == Relay("b", 2)


def test_what_a_server_cannot_do_the_next_is_asked_for() -> None:
    """It said so, so nothing ran; as many servers may say so as there are, and none needs the retry budget."""
    sent, end = drive(forward(list("abcde"), may_retry=_never), [*[Unable(500)] * 4, Answered(200)])
    assert [send.server for send in sent] == list("abcde")
    assert end == Relay("e", 5)
    assert drive(forward(["a", "b"]), [Unable(500), Unable(404)])[1] == Relay("b", 2)


def test_a_run_that_ended_with_its_connection_is_begun_on_the_next() -> None:
    """Up to three times, without the retry budget; then the client is told of the last."""
    assert drive(forward(["a", "b"], may_retry=_never), [Lost(UpstreamDisconnected("gone")), Answered(200)])[
        1
    ] == Relay("b", 2)
    error = UpstreamDisconnected("gone, too")
    assert drive(forward(list("abcd")), [Lost(error)] * 3)[1] == GiveUp(error, 3)


def test_when_all_are_full_the_last_refusal_is_the_answer() -> None:
    """The server's own text and Retry-After tell more than ours could."""
    assert drive(forward(["a", "b"]), [Rejected(503), Rejected(429)])[1] == Relay("b", 2)


def test_a_broken_exchange_is_never_tried_again() -> None:
    """The request may have run (RFC 9110, 9.2.2)."""
    error = UpstreamDisconnected("cut")
    sent, end = drive(forward(["a", "b"]), [Broken(error)])
    assert sent == [SendTo("a", 1)]
    assert end == GiveUp(error, 1)


def test_the_last_unreachable_server_is_named() -> None:
    """The text says how many were tried, and when trying again makes sense."""
    end = drive(forward(["a", "b"]), [refused(), refused()])[1]
    assert isinstance(end, GiveUp)
    assert isinstance(end.error, ConnectFailed)
    assert "2 servers tried, the last: connection refused by a" in str(end.error)
    assert end.error.retry_after


def test_nobody_to_ask_is_said_at_once() -> None:
    """An empty ranking sends nothing."""
    with pytest.raises(StopIteration) as stop:
        next(forward([]))
    assert isinstance(stop.value.value.error, NoServerFits)
    assert stop.value.value.attempts == 0


def test_attempts_are_bounded() -> None:
    """However many servers there are."""
    sent, end = drive(forward(list("abcdef"), limits=ForwardingLimits(attempts=2)), [Rejected(503)] * 2)
    assert [send.server for send in sent] == ["a", "b"]
    assert end == Relay("b", 2)


def test_time_spent_on_connecting_is_bounded() -> None:
    """The next server is tried only while there is time left for connecting."""
    limits = ForwardingLimits(attempts=9, connect_seconds=5)
    sent, end = drive(forward(list("abcd"), limits=limits), [refused(2.0), refused(3.0)])
    assert [send.server for send in sent] == ["a", "b"]
    assert isinstance(end, GiveUp)


def test_a_server_that_stands_in_the_ranking_twice_is_tried_once() -> None:
    """A retry on the same server would be the same failure."""
    assert drive(forward(["a", "a", "b"]), [Rejected(503), Rejected(503)])[1] == Relay("b", 2)


def test_the_retry_budget_is_asked_before_each_attempt_but_the_first() -> None:
    """And never for one that is not made: asking spends it. It is told which server would be asked."""
    asked = Budget(True)
    drive(forward(["a", "b", "c"], may_retry=asked), [Rejected(503), Rejected(503), Rejected(503)])
    assert asked.servers == ["b", "c"]
    spent = Budget(False)
    assert drive(forward(["a", "b"], may_retry=spent), [Rejected(503)])[1] == Relay("a", 1)
    assert drive(forward(["a"], may_retry=_never), [Answered(200)])[1] == Relay("a", 1)


class Budget:
    """A budget that notes for which servers it is asked."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.servers: list[str] = []

    def __call__(self, server: str) -> bool:
        """Answer, and remember that someone asked."""
        self.servers.append(server)
        return self.answer


def _never(server: str) -> bool:
    raise AssertionError(f"the budget was asked for {server}")


def test_a_driver_may_walk_away() -> None:
    """Closing the generator is the cancelled request's end: nothing more is sent."""
    forwarding = forward(["a", "b"])
    next(forwarding)
    forwarding.close()
    with pytest.raises(StopIteration):
        forwarding.send(Rejected(503))


@pytest.mark.parametrize(("status", "kind"), [(200, Answered), (500, Answered), (502, Answered), (503, Rejected)])
def test_what_a_status_means(status: int, kind: Callable[[int], Outcome]) -> None:
    """Only a refusal to start counts as one; a 500 or 502 may have run."""
    assert outcome_of_status(status) == kind(status)
