"""A deadline that moves with every byte and a timer that is touched seldom: both sides' connections keep time so.

Moving a deadline is an assignment; the timer is set anew only where it would fire too late, and one that fires too
early is set again. It is a base class and not a member because it is asked several times for every request.
"""

from __future__ import annotations

import asyncio
import math
from typing import Generic, TypeVar

__all__ = ["LazyTimer"]

Phase = TypeVar("Phase", bound=str)


class LazyTimer(Generic[Phase]):
    """A base for protocols: `_arm` moves the deadline, `math.inf` in `_deadline` lifts it, `_expire` hears of it.

    Times are seconds of the loop's clock. `_phase` is whatever the deadline is for.
    """

    # Slots beside the dictionary of a subclass, which stays small enough for the interpreter's fast path.
    __slots__ = ("_deadline", "_loop", "_phase", "_timer", "_timer_when")

    _loop: asyncio.AbstractEventLoop
    _phase: Phase
    _deadline: float

    def _start_timing(self, loop: asyncio.AbstractEventLoop, phase: Phase) -> None:
        self._loop = loop
        self._phase = phase
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_when = math.inf

    def _arm(self, seconds: float | None, phase: Phase) -> None:
        """Move the deadline to so many seconds from now; None lifts it."""
        if seconds is None:
            self._deadline = math.inf
            return
        self._phase = phase
        self._deadline = when = self._loop.time() + seconds
        if when < self._timer_when:
            self._set_timer(when)

    def _stop_timing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_when = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_when = math.inf
        if self._deadline == math.inf:
            return
        if self._loop.time() < self._deadline:
            self._set_timer(self._deadline)
        else:
            self._expire()
