"""What a router that has just come is told of a fleet."""

from __future__ import annotations

import zlib

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight
from ollama_router_core.fleet.state import FleetState
from ollama_router_core.fleet.summary import MOST_ROWS, Summary, moved_summary, read_summary, write_summary

MODEL = canonical_name("llama3.1:8b")
WEIGHT = model_weight(MODEL)
FAST = Sample(prompt_tokens=1_000, prompt_ns=100_000_000, output_tokens=1_000, output_ns=4_000_000_000)


def fleet(servers: int = 1) -> FleetState:
    """One that has seen nothing."""
    return FleetState(Config.model_validate({"servers": {f"s{n}": {"host": f"gpu{n}"} for n in range(servers)}}))


def told(state: FleetState) -> Summary:
    """Its summary, as another process reads it."""
    found = read_summary(write_summary(state.summary()))
    assert found is not None
    return found


def experienced() -> FleetState:
    """One whose only server answered, and failed too often."""
    state = fleet()
    for _ in range(20):
        state.learn("s0", MODEL, FAST, 0.0)
    state.holds("s0", MODEL, 2**64 - 1, 500)
    for _ in range(5):
        state.health.failed("s0", 100.0, refused=True)
    return state


def test_a_newcomer_believes_what_the_others_learned() -> None:
    """Speeds, who holds a conversation, and which server is suspended until when."""
    before, new = experienced(), fleet()
    new.recall(told(before))
    usual, known = SpeedBook().expect("s0", MODEL, WEIGHT), before.snapshot(0.0).speeds.expect("s0", MODEL, WEIGHT)
    expected = new.snapshot(0.0).speeds.expect("s0", MODEL, WEIGHT)
    assert expected.samples == 3
    assert abs(expected.decode_rate / known.decode_rate - 1) < abs(usual.decode_rate / known.decode_rate - 1) / 2
    assert new.prefixes.of(2**64 - 1) == before.prefixes.of(2**64 - 1)
    assert new.health.suspensions() == before.health.suspensions() != ()


def test_what_was_learned_here_is_kept() -> None:
    """A summary is older than what a router has seen itself."""
    new = fleet()
    new.learn("s0", MODEL, Sample(output_tokens=1_000, output_ns=400_000_000_000), 0.0)
    new.holds("s0", MODEL, 2**64 - 1, 7)
    own = new.snapshot(0.0).speeds.expect("s0", MODEL, WEIGHT).decode_rate
    new.recall(told(experienced()))
    assert new.snapshot(0.0).speeds.expect("s0", MODEL, WEIGHT).decode_rate == own
    held = new.prefixes.of(2**64 - 1)
    assert held is not None
    assert held.tokens == 7


def test_a_server_that_is_not_here_is_not_suspended() -> None:
    """Configs of routers may differ for a while."""
    new = FleetState(Config.model_validate({"servers": {"other": {"host": "gpu"}}}))
    new.recall(told(experienced()))
    assert new.health.suspensions() == ()
    assert len(new.prefixes) == 0


def test_moments_are_told_between_clocks() -> None:
    """Two machines' monotonic clocks differ by any number."""
    (there,) = moved_summary(told(experienced()), 1000.0).suspended
    (here,) = experienced().health.suspensions()
    assert there.until == here.until + 1000.0


def test_a_summary_of_a_large_fleet_is_bounded() -> None:
    """Of 300 servers with ten models each, three or four of each, and the newest."""
    book = SpeedBook()
    for server in range(300):
        for number in range(10):
            book = book.observe(f"server-{server}", canonical_name(f"model-{number}:8b"), WEIGHT, FAST)
    latest = book.latest(MOST_ROWS)
    assert len(latest.servers) == 300
    assert sum(len(known.models) for known in latest.servers.values()) <= MOST_ROWS
    assert all(canonical_name("model-9:8b") in known.models for known in latest.servers.values())
    assert len(write_summary(Summary(speeds=latest))) < 400_000


@pytest.mark.parametrize("data", [b"", b"no summary", zlib.compress(b"\xc1"), zlib.compress(b"\x00" * (5 << 20))])
def test_what_is_no_summary_is_none(data: bytes) -> None:
    """Whatever lies there, a router starts."""
    assert read_summary(data) is None
