"""Connections with deadlines: for what a client has to send, and for what it has to take."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from typing import Any, Literal

from ollama_router_server.http.connection import FrontConnection, ServerConfig, ServerState
from ollama_router_server.http.cycle import FrontCycle, reset_on_close
from ollama_router_server.http.deadline import Deadline
from ollama_router_server.http.limits import USUAL_BOUNDS, Bounds, ProtocolLimits

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["Phase", "TimedProtocol"]

Phase = Literal["head", "body", "unwanted", "keepalive", "linger"]


class TimedProtocol(FrontConnection):
    """A connection with deadlines; `_expire` is called when one has passed."""

    __slots__ = ("_bounds", "_cycle", "_deadline", "_stall", "_unsent")

    def __init__(
        self,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        bounds: Bounds = USUAL_BOUNDS,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = bounds
        self._prepare()

    def _prepare(self) -> None:
        """Set up the state of a new connection."""
        self._deadline: Deadline[Phase] = Deadline(self.loop, "head", self._expire)
        self._cycle: FrontCycle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._unsent = 0

    @property
    def limits(self) -> ProtocolLimits:
        """What this connection is allowed now."""
        return self._bounds.limits

    def _end_timers(self) -> None:
        self._deadline.close()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _expire(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError

    # a client that takes too little -------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client takes less than the application sends."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        cycle = self._cycle
        if cycle is not None and cycle.on_drained is not None:
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
