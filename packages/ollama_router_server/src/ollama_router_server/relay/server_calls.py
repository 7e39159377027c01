"""Requests to servers: opened on the upstream engine, and polled for heads and pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Literal

from ollama_router_core.errors import UpstreamError, UpstreamTimeout
from ollama_router_core.exchange.actions import AwaitHead, Outgoing, Receive, ReceiveAny
from ollama_router_core.exchange.events import Arrival, Piece, Preempted
from ollama_router_server.relay.collaborators import Collaborators
from ollama_router_server.relay.result_poller import WAITING, Waiting
from ollama_router_server.upstream.interface import Call, Timeouts, UpstreamRequest

__all__ = ["ArrivalTurns", "open_call", "poll_head", "poll_piece"]


def open_call(collaborators: Collaborators, request: Outgoing, wake: Callable[[], None]) -> Call:
    """Send a request; `wake` is called whenever there is progress to poll.

    Raises:
        ValueError: the request cannot be encoded.
    """
    destination, patience = request.destination, request.patience
    target = collaborators.targets[destination.name]
    timeouts = target.timeouts
    if patience is not destination.patience:
        timeouts = Timeouts(connect=patience.connect, first_byte=patience.first_byte, idle=patience.idle)
    call = collaborators.upstream.open(
        UpstreamRequest(
            origin=target.origin,
            method=request.method,
            target=request.target,
            headers=tuple(request.fields),
            body=request.body,  # type: ignore[arg-type]  # a stream is a reader of the driver's
            body_length=request.body_length,
            timeouts=timeouts,
            fresh=request.fresh,
        ),
        wake,
    )
    if request.preemption is not None:
        give_up = partial(call.give_up, Preempted())
        request.preemption.on_request(partial(asyncio.get_running_loop().call_soon, give_up))
    return call


def poll_head(action: AwaitHead, timed_out: bool) -> bool | Literal[Waiting.WAITING]:  # noqa: FBT001 - a `Poll`
    """Return True once the response head has arrived; False on timeout.

    Raises:
        UpstreamError: the request failed.
    """
    call: Call = action.upstream  # type: ignore[assignment]  # it is what `open_call` returned
    return call.head_arrived() or (False if timed_out else WAITING)


def poll_piece(action: Receive, timed_out: bool) -> Piece | Literal[Waiting.WAITING]:  # noqa: FBT001 - a `Poll`
    """Return the next piece of a response.

    Raises:
        UpstreamError: the response broke off, or stalled past its timeout.
    """
    piece = _next_piece(action.upstream)  # type: ignore[arg-type]  # it is what `open_call` returned
    if piece is WAITING and timed_out:
        raise UpstreamTimeout("the server did not go on in time", phase="idle")
    return piece


class ArrivalTurns:
    """Round-robin over several responses."""

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn = 0

    def poll(self, action: ReceiveAny, timed_out: bool) -> Arrival | Literal[Waiting.WAITING] | None:  # noqa: FBT001
        """Return the next arrival from any of them; None on timeout."""
        calls: tuple[Call, ...] = action.upstreams  # type: ignore[assignment]  # they are what `open_call` returned
        for number in range(len(calls)):
            call = calls[(self._turn + number) % len(calls)]
            try:
                piece = _next_piece(call) if call.head_arrived() else WAITING
            except UpstreamError as error:
                return Arrival(call, error)
            if piece is not WAITING:
                self._turn += number + 1
                return Arrival(call, piece)
        return None if timed_out else WAITING


def _next_piece(call: Call) -> Piece | Literal[Waiting.WAITING]:
    data = call.take()
    return Piece(data, call.complete) if data or call.complete else WAITING
