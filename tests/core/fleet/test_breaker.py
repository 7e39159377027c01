"""Ejection, probation, slow start, panic and the retry budget, in numbers on a fake clock."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from ollama_router_core.fleet.breaker import Breaker, RetryBudget, counts_as_failure
from ollama_router_core.routing.selector import decide
from support.fleets import make_config, make_facts, make_fleet, make_request


def eject(breaker: Breaker, server: str = "a", now: float = 0.0, **more) -> None:
    """Five failures in a row."""
    for _ in range(5):
        breaker.failed(server, now, **more)


class TestEjection:
    """Out after five failures in a row, each time for longer."""

    def test_five_in_a_row(self):
        """The fifth puts it out, for ten seconds."""
        breaker = Breaker()
        assert [breaker.failed("a", 0.0) for _ in range(5)] == [False, False, False, False, True]
        assert breaker.suspended({"a", "b"}, 0.0) == {"a": 10.0}

    def test_a_success_ends_the_row(self):
        """Four failures, a success, four failures: still in."""
        breaker = Breaker()
        for outcome in (*[False] * 4, True, *[False] * 4):
            breaker.succeeded("a", 0.0) if outcome else breaker.failed("a", 0.0)
        assert breaker.suspended({"a", "b"}, 0.0) == {}

    def test_times_double_up_to_five_minutes(self):
        """10, 20, 40, 80, 160, 300, 300 seconds while each probe fails."""
        breaker, now, times = Breaker(), 0.0, []
        eject(breaker)
        for _ in range(7):
            until = breaker.state("a").until
            times.append(until - now)
            now = until
            assert breaker.admit("a", now)
            breaker.failed("a", now)
        assert times == [10, 20, 40, 80, 160, 300, 300]

    @pytest.mark.parametrize(("jitter", "until"), [(0.0, 10.0), (0.5, 11.0), (1.0, 12.0)])
    def test_jitter_adds_at_most_a_fifth(self, jitter, until):
        """Servers lost together do not come back together."""
        breaker = Breaker()
        eject(breaker, jitter=jitter)
        assert breaker.state("a").until == until

    def test_jitter_never_exceeds_the_cap(self):
        """300 seconds is the longest."""
        breaker, now = Breaker(), 0.0
        eject(breaker)
        for _ in range(8):
            now = breaker.state("a").until
            breaker.admit("a", now)
            breaker.failed("a", now, jitter=1.0)
        assert breaker.state("a").until - now == 300.0

    def test_a_thousand_clients_that_leave_eject_nobody(self):
        """Leaving says nothing about the server."""
        breaker = Breaker()
        for _ in range(1000):
            breaker.abandoned("a")
        assert breaker.suspended({"a", "b"}, 0.0) == {}

    def test_failures_of_requests_sent_before_do_not_add_up(self):
        """A hundred requests in flight when a server dies are one ejection."""
        breaker = Breaker()
        for _ in range(100):
            breaker.failed("a", 0.0)
        assert (breaker.state("a").ejections, breaker.state("a").until) == (1, 10.0)

    def test_it_is_forgiven_with_time(self):
        """After two calm minutes the next time out is two steps shorter."""
        breaker, now = Breaker(), 0.0
        eject(breaker)
        for _ in range(2):
            now = breaker.state("a").until
            breaker.admit("a", now)
            breaker.failed("a", now)
        now = breaker.state("a").until
        breaker.admit("a", now)
        breaker.succeeded("a", now)
        now += 120.0
        eject(breaker, now=now)
        assert breaker.state("a").until - now == 20.0

    @pytest.mark.parametrize(
        ("status", "failure"),
        [(200, False), (400, False), (404, False), (429, False), (499, False), (500, False), (502, True), (503, True),
         (504, True)],
    )  # fmt: skip
    def test_statuses(self, status, failure):
        """Only what speaks against the server counts."""
        assert counts_as_failure(status) is failure


class TestProbation:
    """Half-open: exactly one request."""

    def test_one_of_a_hundred(self):
        """At the moment the time is up, a hundred ask and one may."""
        breaker = Breaker()
        eject(breaker)
        assert not breaker.admit("a", 9.9)
        assert sum(breaker.admit("a", 10.0) for _ in range(100)) == 1

    def test_stays_suspended_while_its_probe_is_out(self):
        """Nobody else is sent there meanwhile."""
        breaker = Breaker()
        eject(breaker)
        assert breaker.suspended({"a", "b"}, 10.0) == {}
        breaker.admit("a", 10.0)
        assert breaker.suspended({"a", "b"}, 10.0)["a"] > 10.0

    def test_a_probe_whose_client_left_lets_another_go(self):
        """Otherwise the server would stay out for ever."""
        breaker = Breaker()
        eject(breaker)
        breaker.admit("a", 10.0)
        breaker.abandoned("a")
        assert breaker.admit("a", 10.0)

    def test_a_late_success_does_not_let_it_back(self):
        """Only the probe counts, not an answer to something sent before."""
        breaker = Breaker()
        eject(breaker)
        breaker.succeeded("a", 5.0)
        assert breaker.suspended({"a", "b"}, 5.0) == {"a": 10.0}


class TestSlowStart:
    """Back, but not at once for everything."""

    def recovered(self) -> Breaker:
        """A server that came back at second 10."""
        breaker = Breaker()
        eject(breaker)
        breaker.admit("a", 10.0)
        breaker.succeeded("a", 10.0)
        return breaker

    @pytest.mark.parametrize(("now", "slots"), [(10.0, 1), (13.0, 1), (25.0, 5), (39.9, 9)])
    def test_rises_to_all_in_thirty_seconds(self, now, slots):
        """From one to ten, in proportion to the time."""
        assert self.recovered().slots({"a": 10}, now) == {"a": slots}

    def test_is_over_after_thirty_seconds(self):
        """No limit of the breaker's own remains."""
        assert self.recovered().slots({"a": 10}, 40.0) == {}

    def test_not_at_boot(self):
        """A server that never failed starts with everything."""
        assert Breaker().slots({"a": 10}, 0.0) == {}


class TestPanic:
    """Never eject all, unless nobody is there."""

    def test_struggling_servers_are_let_back(self):
        """When all are out by failures other than refused connections, all are in."""
        breaker = Breaker()
        eject(breaker, "a")
        eject(breaker, "b")
        assert breaker.suspended({"a", "b"}, 1.0) == {}

    def test_refused_connections_stay_out(self):
        """Nobody listens there; the answer is an immediate 503 that says when to come back."""
        breaker = Breaker()
        eject(breaker, "a", refused=True)
        eject(breaker, "b", now=2.0, refused=True)
        assert breaker.suspended({"a", "b"}, 3.0) == {"a": 10.0, "b": 12.0}
        assert breaker.retry_after({"a", "b"}, 3.0) == 7.0


class TestRetryBudget:
    """At most a fifth of what is under way, and three in any case."""

    @pytest.mark.parametrize(("active", "retries"), [(0, 3), (10, 3), (15, 3), (20, 4), (100, 20)])
    def test_share(self, active, retries):
        """max(3, 20 %)."""
        budget = RetryBudget()
        assert sum(budget.take(active) for _ in range(200)) == retries

    def test_comes_back(self):
        """A retry that is over makes room for another."""
        budget = RetryBudget()
        assert [budget.take(0) for _ in range(4)] == [True, True, True, False]
        budget.give_back()
        assert budget.take(0)


def shares_after_a_return(seconds, *, rate=200.0, took=0.1):
    """The share of a server that just came back, of requests spread over two by the real decision, in virtual time."""
    breaker = Breaker()
    for _ in range(5):
        breaker.failed("back", -10.0)
    assert breaker.admit("back", 0.0)
    breaker.succeeded("back", 0.0)
    config = make_config(
        {"back": {"max_concurrent": 32}, "other": {"max_concurrent": 32}}, routing_strategy="least_loaded"
    )
    fleet = make_fleet(make_facts("back"), make_facts("other"))
    running, sent = [], Counter()
    for turn in range(int(seconds * rate)):
        now = turn / rate
        running = [(end, name) for end, name in running if end > now]
        in_flight = Counter(name for _, name in running)
        snapshot = replace(fleet, in_flight=in_flight, slots=breaker.slots({"back": 32}, now))
        server = decide(make_request(None), snapshot, config, now=now, tiebreak=turn).server
        running.append((now + took, server))
        sent[server] += 1
    return sent["back"] / sum(sent.values())


def test_a_server_that_returns_gets_at_most_a_fifth_in_the_first_three_seconds():
    """200 requests a second over two servers; later it takes its half."""
    assert shares_after_a_return(3.0) <= 0.2
    assert shares_after_a_return(60.0) >= 0.35
