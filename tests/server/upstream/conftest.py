"""Every promise of the interface holds for both engines, on both event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ollama_router_server.upstream.aiohttp_engine import AiohttpUpstream
from ollama_router_server.upstream.engine import HttptoolsUpstream
from ollama_router_server.upstream.interface import Upstream


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The two event loops the server runs on."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(params=[HttptoolsUpstream, AiohttpUpstream], ids=["httptools", "aiohttp"])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    """An engine, closed when the test ends."""
    engine = request.param()
    yield engine
    await engine.aclose()


@pytest.fixture
async def engine() -> AsyncIterator[HttptoolsUpstream]:
    """The httptools engine alone, for what only it promises."""
    upstream = HttptoolsUpstream()
    yield upstream
    await upstream.aclose()
