"""Flow control of one client connection, in both directions."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["READ_HIGH_WATER", "FlowControl"]

READ_HIGH_WATER: Final = 64 * 1024
"""Bytes of a body that may wait for the application before reading from the client pauses."""


class FlowControl:
    """Pause and resume reading and writing on a transport; both idempotent."""

    __slots__ = ("_transport", "_writable", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.read_paused = False
        self.write_paused = False
        self._transport = transport
        self._writable = asyncio.Event()

    async def drain(self) -> None:
        """Wait until the transport accepts more data."""
        if self.write_paused:
            await self._writable.wait()

    def pause_reading(self) -> None:
        """Pause reading from the client."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading from the client."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Handle the transport's buffer rising above its high-water mark."""
        self.write_paused = True
        self._writable.clear()

    def resume_writing(self) -> None:
        """Handle the transport's buffer having drained, and wake waiters in `drain`."""
        self.write_paused = False
        self._writable.set()
