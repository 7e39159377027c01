"""Laws of trying servers in turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.errors import ConnectFailed, UpstreamDisconnected
from ollama_router_core.routing.forwarding import (
    Answered,
    Broken,
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
)

outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Unreachable, st.just(ConnectFailed("refused")), st.floats(0, 20)),
    st.builds(Rejected, st.sampled_from([429, 503, 529])),
    st.builds(Unable, st.sampled_from([404, 500])),
    st.builds(Lost, st.just(UpstreamDisconnected("gone"))),
    st.builds(Answered, st.integers(200, 599)),
    st.builds(Broken, st.just(UpstreamDisconnected("cut"))),
)
limits_of = st.builds(ForwardingLimits, attempts=st.integers(0, 6), connect_seconds=st.floats(0, 30))
rankings = st.lists(st.sampled_from("abcdefgh"), max_size=8)


def run(
    ranking: list[str], limits: ForwardingLimits, data: st.DataObject
) -> tuple[list[SendTo], list[Outcome], Relay | GiveUp]:
    """Drive it with drawn outcomes and a drawn budget; an endless generator would exhaust the bound of attempts."""
    forwarding = forward(ranking, limits=limits, may_retry=lambda _: data.draw(st.booleans()))
    sent: list[SendTo] = []
    told: list[Outcome] = []
    try:
        sent.append(next(forwarding))
        for _ in range(len(ranking) + 1):
            told.append(data.draw(outcomes))
            sent.append(forwarding.send(told[-1]))
    except StopIteration as stop:
        return sent, told, stop.value
    raise AssertionError("it does not end")


@given(rankings, limits_of, st.data())
def test_it_always_ends_within_its_bounds(ranking: list[str], limits: ForwardingLimits, data: st.DataObject) -> None:
    """At most `attempts` sends beside those that a server was unable to serve, none once connecting took too long."""
    sent, told, end = run(ranking, limits, data)
    assert [send.attempt for send in sent] == list(range(1, len(sent) + 1))
    assert end.attempts == len(sent)
    assert sum(not isinstance(outcome, Unable) for outcome in told) <= limits.attempts
    spent = 0.0
    for outcome in told[:-1]:
        spent += outcome.seconds if isinstance(outcome, Unreachable) else 0
        assert spent < limits.connect_seconds


@given(rankings, limits_of, st.data())
def test_no_server_is_asked_twice_and_the_order_is_the_rankings(
    ranking: list[str], limits: ForwardingLimits, data: st.DataObject
) -> None:
    """Sends are a prefix of the ranking without its repetitions."""
    sent, _, _ = run(ranking, limits, data)
    assert [send.server for send in sent] == list(dict.fromkeys(ranking))[: len(sent)]


@given(rankings, limits_of, st.data())
def test_nothing_is_sent_after_something_may_have_run(
    ranking: list[str], limits: ForwardingLimits, data: st.DataObject
) -> None:
    """An answer and a broken exchange are always the last thing that happens."""
    sent, told, end = run(ranking, limits, data)
    assert not any(isinstance(outcome, Answered | Broken) for outcome in told[:-1])
    last = told[-1] if told else None
    if isinstance(last, Answered | Rejected | Unable):
        assert end == Relay(sent[-1].server, len(sent))
    else:
        assert isinstance(end, GiveUp)
        assert end.error is not None
