"""Token counts in the database."""

from __future__ import annotations

import pytest

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.token_usage import TokenUsage
from support.records import make_record

pytestmark = pytest.mark.anyio

DAY = 86_400.0


@pytest.fixture
def usage(database: Database) -> TokenUsage:
    """Nothing counted yet."""
    return TokenUsage(database)


async def test_counts_add_up_and_can_be_given_back(usage: TokenUsage) -> None:
    """By user and day."""
    await usage.add({("alice", 10): 5, ("bob", 10): 7})
    await usage.add({("alice", 10): -2, ("alice", 11): 1})
    await usage.add({})
    assert await usage.read(["alice"], first_day=10) == {("alice", 10): 3, ("alice", 11): 1}
    assert await usage.read(["alice", "bob"], first_day=11) == {("alice", 11): 1}


async def test_a_new_limit_counts_what_the_log_holds(usage: TokenUsage, database: Database) -> None:
    """Once: what was counted since is not counted again. Days end at midnight."""
    await RequestLog(database).insert(
        [
            make_record(0, started_at=10 * DAY - 0.01, prompt_tokens=1000),
            make_record(1, started_at=10 * DAY, prompt_tokens=10, completion_tokens=1),
            make_record(2, started_at=11 * DAY - 0.01, prompt_tokens=20),
            make_record(3, started_at=11 * DAY, completion_tokens=3),
            make_record(4, started_at=11 * DAY, completion_tokens=500, user="bob"),
        ]
    )
    await usage.count_anew("alice", first_day=10, today=12)
    counts = {("alice", 10): 31, ("alice", 11): 3, ("alice", 12): 0}
    assert await usage.read(["alice"], first_day=0) == counts
    await usage.add({("alice", 12): 7})
    await usage.count_anew("alice", first_day=10, today=12)
    assert await usage.read(["alice"], first_day=0) == {**counts, ("alice", 12): 7}
