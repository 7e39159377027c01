"""Fixtures of the client-side router's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ollama_router_core.testing import FakeFleet
from support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until it is moved."""
    return FakeClock()


@pytest.fixture
def fleet() -> FakeFleet:
    """Two servers; `llama3.1:8b` is on both, `qwen3:8b` on b alone."""
    return FakeFleet({"a": ["llama3.1:8b"], "b": ["llama3.1:8b", "qwen3:8b"]})


@pytest.fixture
def settled() -> Callable[[object], None]:
    """Wait until a transport asks nobody about the fleet."""
    from support.waiting import wait_until

    def wait(transport: object) -> None:
        wait_until(lambda: not transport._state.fleet.is_querying(), "the transport asks nobody", seconds=10)

    return wait
