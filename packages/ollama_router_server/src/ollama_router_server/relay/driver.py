"""What both drivers of the exchange machine share: the actions that have nothing to do with the client's connection.

Nothing here waits. An action without a result yet is `WAITING`, and its driver is woken when asking again makes sense.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, ClassVar, Final, Literal, cast, get_args

from ollama_router_core.errors import UpstreamError, UpstreamTimeout
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
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.events import Arrival, Piece, Preempted, Queued
from ollama_router_core.exchange.server_slot import Waiter
from ollama_router_server.accounts.authentication import User
from ollama_router_server.relay.collaborators import Collaborators
from ollama_router_server.relay.reservations import Reservation, reserve, reserve_later
from ollama_router_server.relay.uploads import Tee, TeeReader
from ollama_router_server.upstream.interface import Call, Timeouts, UpstreamRequest

__all__ = ["WAITING", "Driver", "Handler", "Waiting"]


class Waiting(Enum):
    """There is no result yet."""

    WAITING = "waiting"


WAITING: Final = Waiting.WAITING

Handler = Callable[[Any, Any], Any]
_Awaited = (
    Verify | Compute | Count | AwaitCharge | AwaitSlot | LookForModels | UseStore | AwaitHead | Receive | ReceiveAny
)


class Driver:
    """Carries out the actions of one exchange that concern servers. A subclass knows the client."""

    __slots__ = ("_action", "_collaborators", "_counted", "_pump", "_readers", "_task", "_timed_out", "_timer", "_turn")

    def __init__(self, collaborators: Collaborators) -> None:
        self._collaborators = collaborators
        self._action: _Awaited | None = None
        self._task: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timed_out = False
        self._pump: asyncio.Task[None] | None = None
        self._readers: dict[Call, TeeReader] = {}
        self._turn = 0
        self._counted: tuple[str, int] | None = None

    def wake(self) -> None:
        """Something has happened: ask again for what is waited for."""
        raise NotImplementedError

    def _wake_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.wake)

    def _pieces(self) -> AsyncIterator[bytes]:
        """Yield the request's body as it comes."""
        raise NotImplementedError

    def _count_body(self, context: RequestContext, size: int) -> None:
        """Count what has come of the request's body.

        Raises:
            Overloaded: too much of its user's bodies is unfinished.
        """
        if context.user is None or not size:
            return
        user, before = self._counted or (context.user.name, 0)
        self._collaborators.unfinished.take(user, size, max_body=self._collaborators.environment.max_body)
        self._counted = user, before + size

    def _body_ended(self, user: str, size: int) -> None:
        self._collaborators.unfinished.give_back(user, size)
        self._counted = None

    # carrying out -----------------------------------------------------------------------------------------------------

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
        reservation = reserve(limits, user)
        if reservation is not None:
            return reservation
        return self._wait_for_task(action, asyncio.ensure_future(reserve_later(limits, user)))

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

    def _wait_for_task(self, action: _Awaited, task: asyncio.Future[Any]) -> Any:
        self._task = task
        task.add_done_callback(lambda _: self.wake())
        return self._wait_for(action)

    def _wait_for_seconds(self, action: AwaitSlot | AwaitHead | Receive | ReceiveAny) -> Any:
        if action.seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(action.seconds, self._time_is_up)
        self._action = action
        return self._poll()

    def _wait_for(self, action: _Awaited) -> Any:
        self._action = action
        return self._poll()

    def _poll(self) -> Any:
        """Return the result of the action that is waited for, or `WAITING`.

        Raises:
            RouterError: it failed.
        """
        action = self._action
        if action is None:
            return WAITING
        try:
            result = self.results[type(action)](self, action)
        except BaseException:
            self._end_waiting()
            raise
        if result is not WAITING:
            self._end_waiting()
        return result

    def _task_result(self, action: Verify | Compute | Count | AwaitCharge | LookForModels | UseStore) -> Any:
        del action
        task = self._task
        return WAITING if task is None or not task.done() else task.result()

    @property
    def queued(self) -> Queued | None:
        """Its place in the queue as it is now; None while it does not wait."""
        action = self._action
        if not isinstance(action, AwaitSlot):
            return None
        return self._collaborators.admission.place(cast("Waiter", action.queued.waiting))

    @property
    def rank(self) -> int:
        """Its position in the queue as it is now, from 1; 0 while it does not wait."""
        action = self._action
        if not isinstance(action, AwaitSlot):
            return 0
        return self._collaborators.admission.rank(cast("Waiter", action.queued.waiting))

    def _slot(self, action: AwaitSlot) -> Any:
        admission, waiter = self._collaborators.admission, cast("Waiter", action.queued.waiting)
        if waiter.outcome is not None:
            return waiter.outcome
        has_joined = not action.queued.position and admission.rank(waiter)
        return admission.place(waiter) if self._timed_out or has_joined else WAITING

    def _head(self, action: AwaitHead) -> Any:
        call: Call = action.upstream  # type: ignore[assignment]  # it is what `_send` returned
        return call.head_arrived() or (False if self._timed_out else WAITING)

    def _piece(self, action: Receive) -> Any:
        piece = _next_piece(action.upstream)  # type: ignore[arg-type]  # it is what `_send` returned
        if piece is WAITING and self._timed_out:
            raise UpstreamTimeout("the server did not go on in time", phase="idle")
        return piece

    def _arrival(self, action: ReceiveAny) -> Any:
        return self._next_arrival(cast("tuple[Call, ...]", action.upstreams))

    def _cancel(self) -> None:
        """Give up what is waited for; what comes of it all the same is undone."""
        if isinstance(self._action, AwaitSlot):
            self._action.queued.leave()
        task = self._task
        if isinstance(self._action, Count) and task is not None and task.done() and task.exception() is None:
            task.result().settle(0)
        elif isinstance(self._action, Verify | Compute | Count | AwaitCharge | UseStore) and task is not None:
            task.cancel()
        self._end_waiting()

    def _end_waiting(self) -> None:
        self._action = None
        if self._task is not None or self._timer is not None:
            self._task = None
            self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed_out = False

    def _close(self) -> None:
        """Clean up after the exchange, which has ended."""
        if self._counted is not None:
            self._body_ended(*self._counted)
        if self._pump is not None:
            self._pump.cancel()

    def _time_is_up(self) -> None:
        self._timed_out = True
        self.wake()

    # servers ----------------------------------------------------------------------------------------------------------

    def _send(self, action: Send) -> Call:
        request = action.request
        destination, patience = request.destination, request.patience
        target = self._collaborators.targets[destination.name]
        timeouts = target.timeouts
        if patience is not destination.patience:
            timeouts = Timeouts(connect=patience.connect, first_byte=patience.first_byte, idle=patience.idle)
        call = self._collaborators.upstream.open(
            UpstreamRequest(
                origin=target.origin,
                method=request.method,
                target=request.target,
                headers=tuple(request.fields),
                body=cast("bytes | AsyncIterator[bytes]", request.body),
                body_length=request.body_length,
                timeouts=timeouts,
                fresh=request.fresh,
            ),
            self.wake,
        )
        if request.preemption is not None:
            give_up = partial(call.give_up, Preempted())
            request.preemption.on_request(partial(asyncio.get_running_loop().call_soon, give_up))
        if isinstance(request.body, TeeReader):
            self._readers[call] = request.body
        return call

    def _release(self, action: Release) -> None:
        calls: tuple[Call, ...] = action.upstreams  # type: ignore[assignment]  # they are what `_send` returned
        for call in calls:
            call.close()
            if call in self._readers:
                self._readers.pop(call).leave()

    def _stream(self, action: StreamBody) -> tuple[TeeReader, ...]:
        tee = Tee(self._pieces(), action.readers)
        self._pump = asyncio.get_running_loop().create_task(tee.pump())
        return tee.readers

    def _next_arrival(self, calls: tuple[Call, ...]) -> Arrival | Literal[Waiting.WAITING] | None:
        """Return what has come from any of them; each has its turn to be asked first."""
        for number in range(len(calls)):
            call = calls[(self._turn + number) % len(calls)]
            try:
                piece = _next_piece(call) if call.head_arrived() else WAITING
            except UpstreamError as error:
                return Arrival(call, error)
            if piece is not WAITING:
                self._turn += number + 1
                return Arrival(call, piece)
        return None if self._timed_out else WAITING

    handlers: ClassVar[Mapping[type, Handler]] = {
        Verify: _verify,
        StreamBody: _stream,
        Compute: _compute,
        Count: _count,
        Charge: _charge,
        AwaitCharge: _await_charge,
        Admit: _admit,
        AwaitSlot: _wait_for_seconds,
        LookForModels: _look_for_models,
        UseStore: _use_store,
        Send: _send,
        AwaitHead: _wait_for_seconds,
        Receive: _wait_for_seconds,
        ReceiveAny: _wait_for_seconds,
        Release: _release,
    }
    """Carries each action out, by its class."""
    results: ClassVar[Mapping[type, Handler]] = {
        Verify: _task_result,
        Compute: _task_result,
        Count: _task_result,
        AwaitCharge: _task_result,
        LookForModels: _task_result,
        UseStore: _task_result,
        AwaitSlot: _slot,
        AwaitHead: _head,
        Receive: _piece,
        ReceiveAny: _arrival,
    }
    """What has come of each action that is waited for, or `WAITING`."""


for _actions, _table in ((CollaboratorAction, Driver.handlers), (_Awaited, Driver.results)):
    if _missing := {*get_args(_actions)} ^ {*_table}:
        raise LookupError(f"no handler or no result for {_missing}, or one for what is no such action")


def _next_piece(call: Call) -> Piece | Literal[Waiting.WAITING]:
    data = call.take()
    return Piece(data, call.complete) if data or call.complete else WAITING
