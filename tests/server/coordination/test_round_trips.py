"""How often a request waits for Redis: for limits of its user and its server, never for what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.coordination.redis_member import RedisMember
from ollama_router_server.coordination.redis_store import Answer, Operation, RedisStore
from support.eventually import eventually
from support.redis_group import PREFIX
from support.redis_server import RedisServer
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
BODY = {"model": MODEL, "prompt": "hi", "stream": False}
QUESTIONS = {"claim", "count", "charge", "count_of"}
REQUESTS = {"concurrent_requests": 9, "requests_per_minute": 1000}
TOKENS = {"tokens_per_minute": 10**6, "tokens_per_day": 10**7}


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio."""
    return "asyncio"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What each exchange asked that somebody waits for, without those that asked nothing."""
    found: list[list[str]] = []
    exchange = RedisStore.exchange

    async def noted(store: RedisStore, fence: str, operations: Sequence[Operation], **more: Any) -> Answer:
        questions = [str(one[0]) for one in operations if one[0] in QUESTIONS]
        if questions:
            found.append(questions)
        return await exchange(store, fence, operations, **more)

    monkeypatch.setattr(RedisStore, "exchange", noted)
    return found


async def is_limited(router: RunningRouter, grants: dict[str, int]) -> None:
    """Have alice's limits known."""
    async with router.client(router.admin_token) as admin:
        (await admin.patch("/router/users/alice", json={"grants": grants})).raise_for_status()
    await router.services.authenticator.refresh()


@pytest.mark.parametrize(
    ("server", "grants", "expected"),
    [
        ({}, {}, []),
        ({}, REQUESTS, [["count"]]),
        ({}, TOKENS, [["charge"]]),
        ({"max_concurrent": 2}, {}, [["claim"]]),
        ({"max_concurrent": 2}, TOKENS, [["charge", "claim"]]),
        ({"max_concurrent": 2}, {**REQUESTS, **TOKENS}, [["count"], ["charge", "claim"]]),
    ],
    ids=["no limits", "requests", "tokens", "slots", "tokens and slots", "all"],
)
async def test_a_request_waits_for_redis_twice_at_most(
    tmp_path: Path,
    redis_server: RedisServer,
    asked: list[list[str]],
    server: dict[str, int],
    grants: dict[str, int],
    expected: list[list[str]],
) -> None:
    """Its user's requests are counted before its body is read; tokens and the slot are asked for at once after that."""
    settings = {"url": redis_server.url, "timeout": 5.0}
    with redis_server.client() as store:
        store.set(f"{PREFIX}epoch", 1)  # it waits for nobody else
    async with (
        OllamaSimulator(models=[model(MODEL)], time_scale=0.0) as sim,
        running_router(tmp_path, {"one": server_entry(sim, **server)}, coordination=settings) as router,
        router.client() as client,
    ):
        await is_limited(router, grants)
        batch = cast("RedisMember", router.services.coordination)._exchange
        for _ in range(2):  # by the second its user's use has been read
            await eventually(lambda: not batch._batch.given.total() and not router.services.fleet.running("one"))
            asked.clear()
            assert (await client.post("/api/generate", json=BODY)).status_code == 200
        assert asked == expected
        assert {row.queue_position for row in await router.rows(2)} == {None}  # who only asked has not queued
