"""The server's `serve`: what a process is set to once it accepts."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from ollama_router_server.process.serve import _Server

pytestmark = pytest.mark.anyio


@pytest.fixture
def interpreter() -> Iterator[None]:
    """Settings of the whole interpreter are put back."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


async def test_threads_that_compute_hand_the_interpreter_back_soon(
    interpreter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within half a millisecond: else each turn of the event loop would wait ten times as long for them."""
    accepted: list[bool] = []

    async def startup(self: Any, sockets: Any = None) -> None:
        self.started = True

    monkeypatch.setattr(uvicorn.Server, "startup", startup)
    services: Any = None
    server = _Server(uvicorn.Config(app=""), services, lambda: accepted.append(True), None)
    await server.startup()
    assert accepted == [True]
    assert sys.getswitchinterval() == pytest.approx(0.0005)
