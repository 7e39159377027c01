"""Waiting for action results without a task: a driver is woken and polls again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, Final

__all__ = ["WAITING", "Pending", "Poll", "ResultPoller", "Waiting"]


class Waiting(Enum):
    """The action has no result yet."""

    WAITING = "waiting"


WAITING: Final = Waiting.WAITING

Poll = Callable[[Any, bool], Any]
"""Return an action's result, given whether it has timed out; `WAITING` while there is none. May raise instead."""


class Pending:
    """A pending action of a driver; polled on every wake-up.

    Args:
        action: the action.
        poll: return its result or `WAITING`.
        undo: revert the action if its result is no longer wanted.
    """

    __slots__ = ("_poll", "_timed_out", "_timer", "_undo", "action")

    def __init__(self, action: object, poll: Poll, undo: Callable[[], object] | None = None) -> None:
        self.action = action
        self._poll = poll
        self._undo = undo
        self._timed_out = False
        self._timer: asyncio.TimerHandle | None = None

    def expire_in(self, seconds: float, wake: Callable[[], None]) -> None:
        """Time the action out after `seconds`; calls `wake` then."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, wake)

    def result(self) -> Any:
        """Return the result, or `WAITING`.

        Raises:
            Exception: the action failed.
        """
        try:
            result = self._poll(self.action, self._timed_out)
        except BaseException:
            self._stop_timer()
            raise
        if result is not WAITING and self._timer is not None:
            self._stop_timer()
        return result

    def give_up(self) -> None:
        """Stop waiting and undo the action."""
        self._stop_timer()
        if self._undo is not None:
            self._undo()

    def _expire(self, wake: Callable[[], None]) -> None:
        self._timed_out = True
        wake()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class ResultPoller:
    """Wait for the result of one action at a time: poll at once, then on every wake-up."""

    __slots__ = ("_pending",)

    _pending: Pending | None

    def wake(self) -> None:
        """Poll the pending action again."""
        raise NotImplementedError

    def _wait(
        self, action: object, poll: Poll, seconds: float | None = None, undo: Callable[[], object] | None = None
    ) -> Any:
        """Return an action's result if there is one; else make the action pending and return `WAITING`."""
        result = poll(action, False)  # noqa: FBT003 - its time is not up
        if result is WAITING:
            self._pending = pending = Pending(action, poll, undo)
            if seconds is not None:
                pending.expire_in(seconds, self.wake)
        return result

    def _wait_for_task(
        self, action: object, task: asyncio.Future[Any], undo: Callable[[], object] | None = None
    ) -> Any:
        task.add_done_callback(lambda _: self.wake())
        return self._wait(action, partial(_task_result, task), undo=undo or task.cancel)

    def _poll(self) -> Any:
        """Return the pending action's result, or `WAITING`.

        Raises:
            Exception: the action failed.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return WAITING
        result = pending.result()
        if result is WAITING:
            self._pending = pending
        return result

    def _cancel(self) -> None:
        """Give up the pending action."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.give_up()


def _task_result(task: asyncio.Future[Any], _action: object, _timed_out: bool) -> Any:  # noqa: FBT001 - a `Poll`
    return task.result() if task.done() else WAITING
