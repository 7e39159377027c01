"""Requests that several processes refuse are counted in one sum, over each implementation."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from unittest.mock import Mock

import pytest

from ollama_router_core.coordination.interface import Coordination, Group
from ollama_router_core.records.refusal_waves import MANY, RefusalWave
from ollama_router_server.worker_news import WorkerNews

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Nothing here depends on the event loop."""
    return "asyncio"


class Process:
    """What one process has refused, and hears that others have."""

    def __init__(self, member: Coordination) -> None:
        self.member = member
        self.refused = Counter[str]()
        admission = Mock(waiting=0, view=Mock(longest_wait=lambda: (None, frozenset()), heads=dict))
        sink = Mock(dropped=0, pending=0)
        self.news = WorkerNews(
            member,
            fleet=Mock(),
            incidents=Mock(),
            authenticator=Mock(),
            admission=admission,
            sink=sink,
            refused=self.refused,
        )

    async def beat(self) -> None:
        """Hear what was told, and tell what is new."""
        await self.member.beat(time.monotonic())
        self.news._follow(self.member.news())

    def all_refused(self) -> Counter[str]:
        """By every process."""
        return self.refused + self.news.refused_elsewhere


async def beats(processes: list[Process]) -> None:
    """Each tells, and hears of all."""
    for process in (*processes, *processes, *processes):
        await process.beat()


async def test_refusals_of_all_processes_are_one_wave(make_group: Callable[[int], Group]) -> None:
    """No process refused many; each knows that all together did, and counts none twice."""
    group = make_group(3)
    processes = [Process(group.member(index)) for index in range(3)]
    waves = [RefusalWave() for _ in processes]
    await beats(processes)
    for process, wave in zip(processes, waves, strict=True):
        assert wave.see(process.all_refused(), 0.0) is None
    for _ in range(2):
        for process in processes:
            process.refused.update(queue_full=MANY // 5, rate_limited=1)
        await beats(processes)
    told = [wave.see(process.all_refused(), 1.0) for process, wave in zip(processes, waves, strict=True)]
    many = 6 * (MANY // 5 + 1)
    words = f"{many} requests were refused within a minute, {many - 6} of them with queue_full"
    assert told == [words] * 3
