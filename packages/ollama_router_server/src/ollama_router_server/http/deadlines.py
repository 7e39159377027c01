"""A connection with deadlines for what a client has to send and to take."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from ollama_router_server.http.connection import FrontConnection, ServerConfig, ServerState
from ollama_router_server.http.cycle import FrontCycle
from ollama_router_server.http.deadline import Deadline
from ollama_router_server.http.limits import USUAL_BOUNDS, Bounds, ProtocolLimits
from ollama_router_server.http.send_stall import SendStallWatch

__all__ = ["Phase", "TimedProtocol"]

Phase = Literal["head", "body", "unwanted", "keepalive", "linger"]
"""What a deadline is for; `unwanted` is the rest of a body whose request was answered."""


class TimedProtocol(FrontConnection):
    """A connection with deadlines; `_expire` is called when one has passed."""

    __slots__ = ("_bounds", "_cycle", "_deadline", "_stall")

    _stall: SendStallWatch

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
        self._deadline: Deadline[Phase] = Deadline(self.loop, "head", self._expire)
        self._cycle: FrontCycle | None = None
        self._prepare()

    def _prepare(self) -> None:
        """Set up what a subclass keeps for a connection."""

    @property
    def limits(self) -> ProtocolLimits:
        """The current limits."""
        return self._bounds.limits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected: its first head has to come in time."""
        super().connection_made(transport)
        self._stall = SendStallWatch(self.loop, self.transport, self._bounds)
        self._deadline.set(self.limits.header_timeout, "head")

    def pause_writing(self) -> None:
        """The client takes less than the application sends."""
        super().pause_writing()
        self._stall.start()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self._cycle is not None and self._cycle.on_drained is not None:
            self._cycle.on_drained()
        self._stall.stop()
        if self.transport.is_closing():
            self._stall.start_if_idle()  # the rest below the low-water mark has to be taken, too

    def _end_timers(self) -> None:
        self._deadline.close()
        self._stall.stop()

    def _expire(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError
