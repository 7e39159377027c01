"""The timer behind every deadline: it is touched seldom, and strikes when the last deadline has passed."""

from __future__ import annotations

import asyncio

from ollama_router_server.http.deadline import Deadline


class _Handle:
    def __init__(self, when: float) -> None:
        self.when = when
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class _Loop(asyncio.AbstractEventLoop):
    """A clock that stands still until a test moves it, and the timers that were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[_Handle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when, callback, *_arguments, context=None):
        del callback, context
        self.timers.append(_Handle(when))
        return self.timers[-1]


class _Timed:
    """A deadline and how often it has passed."""

    def __init__(self, loop: _Loop) -> None:
        self.struck = 0
        self.deadline: Deadline[str] = Deadline(loop, "idle", self._strike)

    def _strike(self) -> None:
        self.struck += 1


def test_a_later_deadline_touches_no_timer() -> None:
    """A thousand bytes that each move the deadline cost one timer; it is set again when it fires too early."""
    loop = _Loop()
    timed = _Timed(loop)
    for second in range(1000):
        loop.now = second / 1000
        timed.deadline.set(5.0, "idle")
    assert [timer.when for timer in loop.timers] == [5.0]
    loop.now = 5.0
    timed.deadline._on_timer()
    assert (timed.struck, loop.timers[-1].when) == (0, 5.999)
    loop.now = 6.0
    timed.deadline._on_timer()
    assert timed.struck == 1


def test_an_earlier_deadline_moves_the_timer() -> None:
    """Else it would be noticed too late."""
    loop = _Loop()
    timed = _Timed(loop)
    timed.deadline.set(60.0, "keepalive")
    timed.deadline.set(1.0, "head")
    assert [(timer.when, timer.cancelled) for timer in loop.timers] == [(60.0, True), (1.0, False)]


def test_a_lifted_deadline_never_strikes() -> None:
    """The timer that still fires finds nothing to do, and is not set again."""
    loop = _Loop()
    timed = _Timed(loop)
    timed.deadline.set(1.0, "head")
    timed.deadline.lift()
    loop.now = 2.0
    timed.deadline._on_timer()
    assert (timed.struck, len(loop.timers)) == (0, 1)
