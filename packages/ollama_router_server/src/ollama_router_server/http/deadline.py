"""A deadline that moves with every byte, on a timer that is rarely reset; client and server connections use it.

Moving the deadline is an assignment: the timer is replaced only if it would fire too late, and rearmed if it fires too
early.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Deadline"]

Phase = TypeVar("Phase", bound=str)


class Deadline(Generic[Phase]):
    """One deadline at a time, in seconds of the event loop's clock.

    Args:
        loop: provides the clock and the timer.
        phase: the purpose of the deadline, until `set` changes it.
        expired: called when the deadline has passed, unless it was moved or lifted.
    """

    __slots__ = ("_expired", "_loop", "_timer", "_timer_at", "_when", "phase")

    def __init__(self, loop: asyncio.AbstractEventLoop, phase: Phase, expired: Callable[[], None]) -> None:
        self.phase = phase
        self._loop = loop
        self._expired = expired
        self._when = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    @property
    def is_set(self) -> bool:
        """Whether there is a deadline now."""
        return self._when != math.inf

    def set(self, seconds: float | None, phase: Phase) -> None:
        """Move the deadline to `seconds` from now; None lifts it."""
        if seconds is None:
            self._when = math.inf
            return
        self.phase = phase
        self._when = when = self._loop.time() + seconds
        if when < self._timer_at:
            self._set_timer(when)

    def lift(self) -> None:
        """Remove the deadline until `set` is called again."""
        self._when = math.inf

    def close(self) -> None:
        """Cancel the timer for good and drop the reference to the callback."""
        self._when = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._expired = lambda: None

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._when == math.inf:
            return
        if self._loop.time() < self._when:
            self._set_timer(self._when)
        else:
            self._expired()
