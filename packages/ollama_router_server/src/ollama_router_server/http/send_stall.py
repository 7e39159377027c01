"""Detection of clients that read a response too slowly."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys

from ollama_router_server.http.cycle import reset_on_close
from ollama_router_server.http.protocol_limits import Bounds

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["SendStallWatch"]


class SendStallWatch:
    """Abort a connection whose client acknowledges under `write_rate` bytes a second over `write_stall` seconds."""

    __slots__ = ("_bounds", "_loop", "_timer", "_transport", "_unacknowledged")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, bounds: Bounds) -> None:
        self._loop = loop
        self._transport = transport
        self._bounds = bounds
        self._timer: asyncio.TimerHandle | None = None
        self._unacknowledged = 0

    def start(self) -> None:
        """Start a new measurement period."""
        self.stop()
        self._unacknowledged = self._measure()
        self._timer = self._loop.call_later(self._bounds.limits.write_stall, self._check)

    def start_if_idle(self) -> None:
        """Start a period, unless one is running or the transport's buffer is empty."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self.start()

    def stop(self) -> None:
        """Stop measuring: the client has caught up or disconnected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        limits = self._bounds.limits
        if self._unacknowledged - self._measure() < limits.write_stall * limits.write_rate:
            reset_on_close(self._transport, on=True)  # else the kernel retransmits its buffer for minutes
            self._transport.abort()
        else:
            self.start()

    def _measure(self) -> int:
        """Return the bytes the client has not acknowledged, in the transport's and the kernel's buffers.

        The transport's buffer alone is not enough: the kernel accepts more only once a third of its own buffer, which
        may be a megabyte, is free.
        """
        held = self._transport.get_write_buffer_size()
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sys.platform != "win32":
            with contextlib.suppress(OSError):
                held += struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        return held
