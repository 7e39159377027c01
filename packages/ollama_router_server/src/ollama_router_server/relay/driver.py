"""The common part of the exchange drivers: the actions that do not touch the client's connection.

No handler blocks. A handler returns `WAITING` while there is no result; the driver is woken to poll again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, ClassVar, cast, get_args

from ollama_router_core.exchange.actions import (
    Admit,
    AwaitCharge,
    AwaitHead,
    AwaitSlot,
    Charge,
    CollaboratorAction,
    Compute,
    Count,
    LookForModels,
    Receive,
    ReceiveAny,
    Release,
    Send,
    StreamBody,
    UseStore,
    Verify,
)
from ollama_router_core.exchange.events import Queued
from ollama_router_core.exchange.server_slot import Waiter
from ollama_router_server.accounts.authentication import User
from ollama_router_server.relay.bodies import IncomingBody
from ollama_router_server.relay.collaborators import Collaborators
from ollama_router_server.relay.reservations import Reservation, give_back, reserve
from ollama_router_server.relay.result_poller import WAITING, ResultPoller
from ollama_router_server.relay.server_calls import ArrivalTurns, open_call, poll_head, poll_piece
from ollama_router_server.relay.uploads import Tee, TeeReader
from ollama_router_server.upstream.interface import Call

__all__ = ["Driver", "Handler"]

Handler = Callable[[Any, Any], Any]


class Driver(ResultPoller):
    """Perform an exchange's actions on servers and services. Subclasses add those on the client."""

    __slots__ = ("_arrivals", "_body", "_collaborators", "_tee")

    def __init__(self, collaborators: Collaborators) -> None:
        self._pending = None
        self._collaborators = collaborators
        self._body: IncomingBody | None = None
        self._tee: Tee | None = None
        self._arrivals: ArrivalTurns | None = None

    def _pieces(self) -> AsyncIterator[bytes]:
        """Yield the request body as it arrives."""
        raise NotImplementedError

    @property
    def queued(self) -> Queued | None:
        """The request's place in the queue now; None while it is not queued."""
        waiter = self._waiter
        return None if waiter is None else self._collaborators.admission.place(waiter)

    @property
    def rank(self) -> int:
        """The request's position in the queue now, from 1; 0 while it is not queued."""
        waiter = self._waiter
        return 0 if waiter is None else self._collaborators.admission.rank(waiter)

    @property
    def _waiter(self) -> Waiter | None:
        action = None if self._pending is None else self._pending.action
        return cast("Waiter", action.queued.waiting) if isinstance(action, AwaitSlot) else None

    def _close(self) -> None:
        """Release the body and the tee once the exchange has ended."""
        if self._body is not None:
            self._body.close()
        if self._tee is not None:
            self._tee.stop()

    # the router's services -------------------------------------------------------------------------------------------

    def _verify(self, action: Verify) -> Any:
        authenticator = self._collaborators.authenticator
        found: User | Awaitable[User]
        if action.speaker is None:
            found = authenticator.authenticate(action.headers, action.address)
        else:
            found = authenticator.speaking(cast("User", action.speaker), action.person)
        return found if isinstance(found, User) else self._wait_for_task(action, asyncio.ensure_future(found))

    def _compute(self, action: Compute) -> Any:
        loop = asyncio.get_running_loop()
        return self._wait_for_task(action, loop.run_in_executor(self._collaborators.beside, action.function))

    def _count(self, action: Count) -> Any:
        limits, user = self._collaborators.limits, cast("User", action.user)
        ticket = limits.admit_at_once(user)
        if ticket is not None:
            return Reservation(limits, user, ticket)
        task = asyncio.ensure_future(reserve(limits, user))
        return self._wait_for_task(action, task, partial(give_back, task))

    def _charge(self, action: Charge) -> Any:
        return cast("Reservation", action.reservation).charge(action.tokens)

    def _await_charge(self, action: AwaitCharge) -> Any:
        return self._wait_for_task(action, cast("Reservation", action.reservation).charged())

    def _look_for_models(self, action: LookForModels) -> Any:
        search = self._collaborators.search
        return self._wait_for_task(action, search.done()) if search.begin() else False

    def _use_store(self, action: UseStore) -> Any:
        return self._wait_for_task(action, asyncio.ensure_future(self._collaborators.responses.carry_out(action)))

    def _admit(self, action: Admit) -> Any:
        return self._collaborators.admission.admit(action, self._wake_soon)

    def _wake_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.wake)

    def _await_slot(self, action: AwaitSlot) -> Any:
        return self._wait(action, self._slot, action.seconds, action.queued.leave)

    def _slot(self, action: AwaitSlot, timed_out: bool) -> Any:  # noqa: FBT001 - a `Poll`
        admission, waiter = self._collaborators.admission, cast("Waiter", action.queued.waiting)
        if waiter.outcome is not None:
            return waiter.outcome
        has_joined = not action.queued.position and admission.rank(waiter)
        return admission.place(waiter) if timed_out or has_joined else WAITING

    # servers ----------------------------------------------------------------------------------------------------------

    def _send(self, action: Send) -> Call:
        request = action.request
        call = open_call(self._collaborators, request, self.wake)
        if self._tee is not None and isinstance(request.body, TeeReader):
            self._tee.sent(request.body, call)
        return call

    def _await_head(self, action: AwaitHead) -> Any:
        return self._wait(action, poll_head, action.seconds)

    def _receive_piece(self, action: Receive) -> Any:
        return self._wait(action, poll_piece, action.seconds)

    def _receive_any(self, action: ReceiveAny) -> Any:
        arrivals = self._arrivals = self._arrivals or ArrivalTurns()
        return self._wait(action, arrivals.poll, action.seconds)

    def _release(self, action: Release) -> None:
        calls: tuple[Call, ...] = action.upstreams  # type: ignore[assignment]  # they are what `_send` returned
        for call in calls:
            call.close()
            if self._tee is not None:
                self._tee.released(call)

    def _stream(self, action: StreamBody) -> tuple[TeeReader, ...]:
        self._tee = tee = Tee(self._pieces(), action.readers)
        tee.start()
        return tee.readers

    handlers: ClassVar[Mapping[type, Handler]] = {
        Verify: _verify,
        StreamBody: _stream,
        Compute: _compute,
        Count: _count,
        Charge: _charge,
        AwaitCharge: _await_charge,
        Admit: _admit,
        AwaitSlot: _await_slot,
        LookForModels: _look_for_models,
        UseStore: _use_store,
        Send: _send,
        AwaitHead: _await_head,
        Receive: _receive_piece,
        ReceiveAny: _receive_any,
        Release: _release,
    }
    """The handler of each action class."""


if _missing := {*get_args(CollaboratorAction)} ^ {*Driver.handlers}:
    raise LookupError(f"no handler for {_missing}, or a handler for another class")
