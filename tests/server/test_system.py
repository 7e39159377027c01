"""The real clock, ids and randomness."""

from __future__ import annotations

import time

import pytest

from ollama_router_core.access.tokens import check_format, mint_token
from ollama_router_server.system import (
    SystemClock,
    environment,
    new_request_id,
    random_below,
    random_bytes,
)


def test_request_ids_sort_by_time_and_differ() -> None:
    """28 hexadecimal digits, the time first."""
    before = time.time_ns() // 1_000_000
    ids = [new_request_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert {len(text) for text in ids} == {28}
    times = [int(text[:12], 16) for text in ids]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= time.time_ns() // 1_000_000


def test_the_two_clocks() -> None:
    """One goes forward, the other tells the date."""
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    assert abs(clock.wall() - time.time()) < 60.0


def test_randomness_makes_tokens_that_differ() -> None:
    """The source that the server hands to the core."""
    tokens = {mint_token(random_below).reveal() for _ in range(100)}
    assert len(tokens) == 100
    assert all(check_format(text) for text in tokens)
    assert len(random_bytes(16)) == 16
    assert random_bytes(16) != random_bytes(16)


def test_the_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later changes do not reach into a running router."""
    monkeypatch.setenv("OROUTER_TEST", "before")
    copy = environment()
    monkeypatch.setenv("OROUTER_TEST", "after")
    assert copy["OROUTER_TEST"] == "before"
