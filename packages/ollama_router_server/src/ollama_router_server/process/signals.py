"""Signals of a process without an event loop: queued by the handler, awaited with `select`."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import Any, Final

__all__ = ["SignalQueue", "heed"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)


def heed() -> None:
    """Unblock the signals in this thread, including those pending in a worker since its fork."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


class SignalQueue:
    """SIGTERM, SIGINT, SIGHUP and SIGUSR2 in order of arrival; SIGCHLD only ends a wait."""

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._before: dict[int, Any] = {}
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)

    def install(self) -> None:
        """Install the signal handlers."""
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def close(self) -> None:
        """Restore the previous handlers and close the pipe."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def block(self) -> None:
        """Keep signals pending in the kernel, so that none is lost while the process forks."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def wait(self, descriptors: Iterable[int], seconds: float) -> list[int]:
        """Return the readable descriptors; returns early on a signal, else after `seconds`."""
        readable, _, _ = select.select([self._read, *descriptors], (), (), seconds)
        if self._read in readable:
            readable.remove(self._read)
            with suppress(BlockingIOError):
                os.read(self._read, 64)
        return readable

    def take(self) -> list[int]:
        """Return the signals since the last call."""
        pending, self._pending = self._pending, []
        return pending

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._pending.append(number)
