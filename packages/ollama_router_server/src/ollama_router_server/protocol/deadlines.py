"""Uvicorn's protocol class with deadlines: one lazy timer for what a client owes, one for what it does not take.

Belongs here: timers. Does not belong here: which deadline holds when, and what happens when it has passed (`strict`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import struct
import sys
from typing import Any, ClassVar, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ollama_router_server.protocol.cycle import FrontCycle, reset_on_close
from ollama_router_server.protocol.limits import ProtocolLimits

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["Phase", "TimedProtocol"]

Phase = Literal["head", "body", "unwanted", "keepalive", "linger"]


class TimedProtocol(HttpToolsProtocol):
    """A connection with deadlines; `_expire` is called when one has passed."""

    # Slots beside the base's dictionary, which stays small enough for the interpreter's fast path.
    __slots__ = ("_deadline", "_phase", "_stall", "_timer", "_timer_when", "_unsent")

    limits: ClassVar[ProtocolLimits] = ProtocolLimits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase: Phase = "head"
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_when = math.inf
        self._stall: asyncio.TimerHandle | None = None
        self._unsent = 0

    def _arm(self, seconds: float, phase: Phase) -> None:
        """Move the deadline; the timer is only touched when it would fire too late."""
        self._phase = phase
        self._deadline = when = self.loop.time() + seconds
        if when < self._timer_when:
            self._set_timer(when)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_when = when
        self._timer = self.loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_when = math.inf
        if self._deadline == math.inf or self.transport.is_closing():
            return
        if self.loop.time() < self._deadline:
            self._set_timer(self._deadline)
        else:
            self._expire()

    def _expire(self) -> None:
        raise NotImplementedError

    def _end_timers(self) -> None:
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        self._timer = self._stall = None

    # a client that takes too little -------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client takes less than the application sends."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        cycle: Any = self.cycle
        if isinstance(cycle, FrontCycle) and cycle.on_drained is not None:
            cycle.on_drained()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _watch_writing(self) -> None:
        self._unsent = self._untaken()
        self._stall = self.loop.call_later(self.limits.write_stall, self._check_writing)

    def _check_writing(self) -> None:
        self._stall = None
        if self._unsent - self._untaken() < self.limits.write_stall * self.limits.write_rate:
            reset_on_close(self.transport, on=True)  # else the kernel goes on offering what it holds for minutes
            self.transport.abort()
        else:
            self._watch_writing()

    def _untaken(self) -> int:
        """Bytes that the client has not acknowledged, here and in the kernel.

        Our own buffer alone would not do: the kernel takes nothing from it until a third of its own, which may be a
        megabyte, is free again.
        """
        held = self.transport.get_write_buffer_size()
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sys.platform != "win32":
            with contextlib.suppress(OSError):
                held += struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        return held
