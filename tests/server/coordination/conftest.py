"""Groups of every implementation; a Redis for the tests that need one, empty for each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from ollama_router_core.coordination.in_process import InProcess
from ollama_router_core.coordination.interface import Group
from ollama_router_server.coordination import redis_store
from ollama_router_server.coordination.shared_memory import SharedMemory
from support.redis_group import RedisGroup
from support.redis_server import RedisServer, find_server, running_redis


@pytest.fixture(scope="session")
def one_redis_server() -> Iterator[RedisServer]:
    """One for the session; none, and so a failure, where the checks run without it."""
    program = find_server()
    if program is None:
        assert "CI" not in os.environ, "redis-server is not installed"
        pytest.skip("redis-server is not installed")
    with running_redis(program) as server:
        yield server


@pytest.fixture
def redis_server(one_redis_server: RedisServer) -> RedisServer:
    """The same, without what the test before left; its state is taken as settled."""
    with one_redis_server.client() as client:
        client.flushall()
    return one_redis_server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No member is taken for one that says nothing because this machine was slow between two steps of a test."""
    monkeypatch.setattr(redis_store, "_PATIENCE_MS", 3_600_000)


@pytest.fixture(params=["in process", "shared memory", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which implementation."""
    found: str = request.param
    return found


@pytest.fixture
async def make_group(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Callable[[int], Group]]:
    """Groups of so many members."""
    made: list[SharedMemory | RedisGroup] = []

    def make(size: int) -> Group:
        match kind:
            case "in process":
                return InProcess("router", b"s" * 32, size=size)
            case "shared memory":
                made.append(SharedMemory(size))
            case _:
                made.append(RedisGroup(request.getfixturevalue("redis_server").url, size))
        return made[-1]

    yield make
    for group in made:
        if isinstance(group, RedisGroup):
            await group.aclose()
        else:
            group.close()
