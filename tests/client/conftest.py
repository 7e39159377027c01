"""Fixtures of the client-side router's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ollama_router_core.testing import FakeFleet


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def wall(self) -> float:
        """Seconds since 1970."""
        return 1_700_000_000 + self.now


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still until it is moved."""
    return HandClock()


@pytest.fixture
def fleet() -> FakeFleet:
    """Two servers; `llama3.1:8b` is on both, `qwen3:8b` on b alone."""
    return FakeFleet({"a": ["llama3.1:8b"], "b": ["llama3.1:8b", "qwen3:8b"]})


@pytest.fixture
def settled() -> Callable[[object], None]:
    """Wait until a transport asks nobody about the fleet."""
    from support.waiting import wait_until

    def wait(transport: object) -> None:
        wait_until(lambda: not transport._state.fleet.is_asking(), "the transport asks nobody", seconds=10)

    return wait
