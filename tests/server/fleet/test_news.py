"""What the workers of one router tell each other about servers, on a clock that the test moves."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.coordination.in_process import InProcess
from ollama_router_core.coordination.news import FactsChanged
from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.fleet.runners import Load
from ollama_router_core.fleet.speeds import Sample, model_weight
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from support.fleets import make_config
from support.storage import FakeClock

MODEL = canonical_name("llama3.1:8b")
CONFIG = make_config({"a": {}, "b": {}})


class Workers:
    """Fleets of workers of one router, both of whose servers are up."""

    def __init__(self, size: int = 3) -> None:
        self.clock = FakeClock()
        self.group = InProcess("router", b"secret", size=size)
        self.members = [self.group.member(index) for index in range(size)]
        upstream: Any = HttptoolsUpstream()
        self.fleets = [
            FleetService(config=CONFIG, targets={}, upstream=upstream, clock=self.clock, coordination=member)
            for member in self.members
        ]
        for fleet in self.fleets:
            for name in ("a", "b"):
                fleet.state.probe_answered(name, 200, b'{"version":"0.32.0"}', probe_ms=1.0, now=self.clock.monotonic())
        self.exchange()
        self.clock.advance(5.0)

    def exchange(self) -> list[int]:
        """Let all hear what was told; how many news each heard."""
        heard = [member.news() for member in self.members]
        for fleet, told in zip(self.fleets, heard, strict=True):
            fleet.follow(told)
        return [len(told) for told in heard]

    def suspended(self) -> list[set[str]]:
        """Whom each leaves alone."""
        return [set(fleet.snapshot.suspended) for fleet in self.fleets]


@pytest.fixture
def workers() -> Workers:
    """Three."""
    return Workers()


def fail(fleet: FleetService, name: str, times: int = 5) -> None:
    """Requests that break off."""
    for _ in range(times):
        permit = fleet.permit(name)
        assert permit is not None
        permit.failed(fleet.now())


def test_a_server_that_one_suspends_is_suspended_for_all(workers: Workers) -> None:
    """Five failures in one worker are enough; nobody passes it on."""
    fail(workers.fleets[0], "a")
    assert workers.suspended() == [{"a"}, set(), set()]
    assert workers.exchange() == [0, 1, 1]
    assert workers.suspended() == [{"a"}] * 3
    assert workers.exchange() == [0, 0, 0]
    until = {fleet.snapshot.suspended["a"] for fleet in workers.fleets}
    assert len(until) == 1


def test_a_server_that_one_finds_back_is_back_for_all_slowly(workers: Workers) -> None:
    """The probe of one worker counts, and the slow start is everybody's."""
    fail(workers.fleets[0], "a")
    workers.exchange()
    workers.clock.advance(20.0)
    probe = workers.fleets[2].permit("a")
    assert probe is not None
    assert probe.probe
    probe.done(workers.fleets[2].now())
    workers.exchange()
    assert workers.suspended() == [set()] * 3
    assert [fleet.snapshot.slots for fleet in workers.fleets] == [{"a": 1}] * 3
    workers.clock.advance(31.0)
    assert [fleet.snapshot.slots for fleet in workers.fleets] == [{}] * 3


def test_a_repeated_ejection_lasts_longer_whoever_sees_it(workers: Workers) -> None:
    """The second worker's probe fails: the next time out is twice the first."""
    fail(workers.fleets[0], "a")
    workers.exchange()
    workers.clock.advance(15.0)
    fail(workers.fleets[1], "a", times=1)
    workers.exchange()
    left = workers.fleets[0].snapshot.suspended["a"] - workers.clock.monotonic()
    assert 20.0 <= left <= 24.0


def test_news_of_an_older_time_out_change_nothing(workers: Workers) -> None:
    """What a worker found out by its own probe is not overruled by failures before it."""
    fail(workers.fleets[0], "a")
    workers.exchange()
    workers.clock.advance(15.0)
    probe = workers.fleets[1].permit("a")
    assert probe is not None
    workers.fleets[1].health.opened_elsewhere("a", until=workers.clock.monotonic() + 60, ejections=1, refused=False)
    assert workers.fleets[1].permit("a") is None
    probe.done(workers.clock.monotonic())
    assert "a" not in workers.suspended()[1]


def test_a_drain_reaches_all(workers: Workers) -> None:
    """And its end."""
    for on in (True, False):
        workers.fleets[0].drain("b", on=on)
        workers.exchange()
        assert [("b" in fleet.snapshot.draining) for fleet in workers.fleets] == [on] * 3


def test_learned_speeds_are_shared_at_most_once_a_second(workers: Workers) -> None:
    """A busy worker does not flood the others."""
    sample = Sample(output_tokens=1000, output_ns=1_000_000_000)
    for _ in range(100):
        workers.fleets[0].learn("a", MODEL, sample)
    assert workers.exchange() == [0, 1, 1]
    expected = [fleet.snapshot.speeds for fleet in workers.fleets]
    assert expected[1] is not None
    assert expected[1].expect("a", MODEL, model_weight(MODEL)).samples == 1
    workers.clock.advance(1.1)
    workers.fleets[0].learn("a", MODEL, sample)
    assert workers.exchange() == [0, 1, 1]


def test_a_model_that_one_has_loaded_is_known_to_be_loading_by_all(workers: Workers) -> None:
    """Once, however many requests wait for it; those that hear of it do not tell it again."""
    load = Load(8192, frozenset({("num_gpu", 1)}))
    for _ in range(3):
        workers.fleets[0].sent("a", MODEL, load)
    assert workers.exchange() == [0, 1, 1]
    assert [set(fleet.servers["a"].loading) for fleet in workers.fleets] == [{MODEL}] * 3
    assert workers.exchange() == [0, 0, 0]


def test_a_conversation_s_home_is_known_to_all(workers: Workers) -> None:
    """Its next turn may arrive anywhere."""
    workers.fleets[0].holds("a", MODEL, 2**64 - 1, 500)
    assert workers.exchange() == [0, 1, 1]
    assert [fleet.prefixes.of(2**64 - 1) for fleet in workers.fleets] == [HeldPrefix("a", 500)] * 3


def test_what_a_server_keeps_of_prompts_is_learned_by_all(workers: Workers) -> None:
    """A quarter of what it did not find in its cache is no longer reckoned with, in every worker."""
    workers.fleets[0].holds("a", MODEL, 7, 1000)
    workers.exchange()
    workers.fleets[1].was_cached(7, "a", 0)
    assert workers.exchange() == [1, 0, 1]
    assert [fleet.prefixes.of(7) for fleet in workers.fleets] == [HeldPrefix("a", 750)] * 3


def test_a_server_that_goes_is_told_once(workers: Workers) -> None:
    """Three workers that see it one after the other say so once each at most, and then are quiet."""
    for fleet in workers.fleets:
        fleet.state.probe_failed("a", "refused", now=workers.clock.monotonic(), refused=True)
    assert workers.exchange() == [2, 2, 2]
    assert workers.exchange() == [0, 0, 0]


def test_requests_in_flight_count_for_all_until_their_worker_is_gone(workers: Workers) -> None:
    """A worker that dies takes no slot with it."""
    workers.fleets[0].begin("a")
    workers.fleets[1].begin("a")
    assert [fleet.snapshot.in_flight["a"] for fleet in workers.fleets] == [2, 2, 2]
    workers.group.forget(0)
    assert workers.fleets[2].snapshot.in_flight["a"] == 1


def test_news_of_servers_that_the_config_does_not_have_are_ignored(workers: Workers) -> None:
    """A worker may have taken up a new config before the others."""
    workers.members[0].tell(FactsChanged("new"))
    fail(workers.fleets[0], "b")
    assert workers.exchange() == [0, 2, 2]
    workers.fleets[1].health.opened_elsewhere("new", until=1e9, ejections=1, refused=True)
    assert workers.fleets[1].snapshot.slots.keys() == {"b"}
