"""Every promise of the interface holds on both event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The two event loops the server runs on."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def upstream() -> AsyncIterator[HttptoolsUpstream]:
    """The engine, closed when the test ends."""
    engine = HttptoolsUpstream()
    yield engine
    await engine.aclose()
