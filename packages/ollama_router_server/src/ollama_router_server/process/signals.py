"""Signals of a process without an event loop: queued by the handler, waited for with `select`."""

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
    """Deliver signals to this thread, those that were kept back in a worker since its fork among them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


class SignalQueue:
    """SIGTERM, SIGINT, SIGHUP and SIGUSR2 in the order of their arrival; SIGCHLD only ends a wait."""

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._before: dict[int, Any] = {}
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)

    def install(self) -> None:
        """Handle the signals from now on."""
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def close(self) -> None:
        """Restore the handlers of before, and let go of the pipe."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def block(self) -> None:
        """Leave signals pending in the kernel; one that arrives while the process forks must not be lost."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def unblock(self) -> None:
        """Deliver signals again."""
        heed()

    def wait(self, descriptors: Iterable[int], seconds: float) -> list[int]:
        """Those of the descriptors that can be read; returns early on a signal, else after so many seconds."""
        readable, _, _ = select.select([self._read, *descriptors], (), (), seconds)
        if self._read in readable:
            readable.remove(self._read)
            with suppress(BlockingIOError):
                os.read(self._read, 64)
        return readable

    def take(self) -> list[int]:
        """Take the signals since the last call."""
        pending, self._pending = self._pending, []
        return pending

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._pending.append(number)
