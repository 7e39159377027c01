"""Daemon threads, which do not delay the exit of the process: a router must stop even if a database hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

__all__ = ["DaemonThreads"]

T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreads:
    """At most `count` threads, started on demand; `ThreadPoolExecutor` would join its threads at exit."""

    def __init__(self, count: int, *, name: str) -> None:
        self._count = count
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._open: set[Future[Any]] = set()
        self._threads: list[Thread] = []

    async def run(self, function: Callable[[], T]) -> T:
        """Return what the function returns; once started it runs to its end, even if the caller is cancelled."""
        job: Future[T] = Future()
        self._open.add(job)
        job.add_done_callback(self._open.discard)
        if len(self._open) > len(self._threads) < self._count:
            thread = Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put((job, function))
        return await asyncio.wrap_future(job)

    async def aclose(self, *, grace: float) -> None:
        """Wait at most `grace` seconds for running jobs; if all finish, every thread has ended on return.

        A process that forks next must have no threads.
        """
        waiting = [asyncio.wrap_future(job) for job in tuple(self._open)]
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(*waiting, return_exceptions=True)
        for _ in self._threads:
            self._jobs.put(None)
        if not self._open:
            for thread in self._threads:
                thread.join()
        self._threads.clear()


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, function = job
        if future.set_running_or_notify_cancel():
            _fulfil(future, function)
        del job, future, function  # an idle thread must not keep objects alive


def _fulfil(future: Future[T], function: Callable[[], T]) -> None:
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
        future.set_exception(error)
    else:
        future.set_result(result)
