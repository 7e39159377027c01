"""A Redis for the tests that need one, empty for each."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

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
