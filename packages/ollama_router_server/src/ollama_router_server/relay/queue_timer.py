"""The event-loop timer that runs a queue's due checks."""

from __future__ import annotations

import asyncio

from ollama_router_core.exchange.admission_controller import AdmissionController
from ollama_router_server.system import Clock

__all__ = ["QueueTimer"]


class QueueTimer:
    """The timer of one queue; rearmed whenever the queue changes."""

    def __init__(self, admission: AdmissionController, clock: Clock) -> None:
        self._admission = admission
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0
        admission.on_change(self._arm)

    def _arm(self) -> None:
        at = self._admission.next_look()
        if at is None:
            return
        if self._timer is not None:
            if self._at <= at:
                return
            self._timer.cancel()
        self._at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock.monotonic()), self._look)

    def _look(self) -> None:
        self._timer = None
        self._admission.look()
