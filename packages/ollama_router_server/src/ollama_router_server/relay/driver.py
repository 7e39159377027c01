"""What both drivers of the exchange machine share: the actions that have nothing to do with the client's connection.

Nothing here waits. An action without a result yet is `WAITING`, and its driver is woken when asking again makes sense.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, assert_never, cast

from ollama_router_core.errors import UpstreamError, UpstreamTimeout
from ollama_router_core.exchange.actions import (
    Admit,
    AwaitHead,
    AwaitSlot,
    Compute,
    Count,
    LookForModels,
    Outgoing,
    Receive,
    ReceiveAny,
    Release,
    Send,
    StreamBody,
    Verify,
)
from ollama_router_core.exchange.admission_controller import AdmissionController, Waiter
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Arrival, Piece
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.accounts.authentication import Authenticator, User
from ollama_router_server.accounts.usage_limits import UsageLimits
from ollama_router_server.relay.model_search import ModelSearch
from ollama_router_server.relay.reservations import reserve, reserve_later
from ollama_router_server.relay.unfinished_bodies import UnfinishedBodies
from ollama_router_server.relay.uploads import Tee, TeeReader
from ollama_router_server.upstream.interface import Call, CallingUpstream, Timeouts, UpstreamRequest
from ollama_router_server.upstream.targets import Target

__all__ = ["WAITING", "Collaborators", "Driver", "ServerAction", "Waiting"]


class Waiting(Enum):
    """There is no result yet."""

    WAITING = "waiting"


WAITING: Final = Waiting.WAITING

ServerAction = (
    Verify
    | StreamBody
    | Compute
    | Count
    | Admit
    | AwaitSlot
    | LookForModels
    | Send
    | AwaitHead
    | Receive
    | ReceiveAny
    | Release
)
_Awaited = Verify | Compute | Count | AwaitSlot | LookForModels | AwaitHead | Receive | ReceiveAny


@dataclass(frozen=True, slots=True, kw_only=True)
class Collaborators:
    """What actions are carried out with. `record` takes the row of an exchange that has ended.

    `beside` is one thread: of two that compute, each would hold up the event loop in turn.
    """

    environment: Environment
    targets: Mapping[str, Target]
    upstream: CallingUpstream
    admission: AdmissionController
    authenticator: Authenticator
    limits: UsageLimits
    search: ModelSearch
    record: Callable[[RequestContext, RequestRecord], None]
    beside: Executor
    unfinished: UnfinishedBodies


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
        """The request's body as it comes."""
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

    def _body_ended(self) -> None:
        if self._counted is not None:
            self._collaborators.unfinished.give_back(*self._counted)
            self._counted = None

    # carrying out -----------------------------------------------------------------------------------------------------

    def _carry_out(self, action: ServerAction) -> Any:
        """The result of an action, or `WAITING`.

        Raises:
            RouterError: it failed.
        """
        match action:
            case Receive() | AwaitHead() | ReceiveAny():
                if action.seconds is not None:
                    self._timer = asyncio.get_running_loop().call_later(action.seconds, self._time_is_up)
            case Send():
                return self._send(action.request)
            case Release():
                self._release(cast("tuple[Call, ...]", action.upstreams))
                return None
            case Admit():
                return self._collaborators.admission.admit(action, self._wake_soon)
            case StreamBody(readers):
                return self._stream(readers)
            case _:
                result = self._ask(action)
                if result is not WAITING:
                    return result
        self._action = action
        return self._poll()

    def _ask(self, action: Verify | Compute | Count | AwaitSlot | LookForModels) -> Any:
        """What is known at once; else have it found out."""
        collaborators = self._collaborators
        match action:
            case Verify():
                found = collaborators.authenticator.authenticate(action.headers, action.address)
                if isinstance(found, User):
                    return found
                self._await(asyncio.ensure_future(found))
            case Compute(function):
                self._await(asyncio.get_running_loop().run_in_executor(collaborators.beside, function))
            case Count(user, tokens):
                reservation = reserve(collaborators.limits, cast("User", user), tokens)
                if reservation is not None:
                    return reservation
                self._await(asyncio.ensure_future(reserve_later(collaborators.limits, cast("User", user), tokens)))
            case LookForModels():
                if not collaborators.search.begin():
                    return False
                self._await(collaborators.search.done())
            case AwaitSlot():
                pass
            case _:
                assert_never(action)
        return WAITING

    def _poll(self) -> Any:
        """The result of the action that is waited for, or `WAITING`.

        Raises:
            RouterError: it failed.
        """
        try:
            result = self._result(self._action)
        except BaseException:
            self._end_waiting()
            raise
        if result is not WAITING:
            self._end_waiting()
        return result

    def _result(self, action: _Awaited | None) -> Any:
        match action:
            case Receive():
                piece = _next_piece(action.upstream)  # type: ignore[arg-type]  # it is what `_send` returned
                if piece is WAITING and self._timed_out:
                    raise UpstreamTimeout("the server did not go on in time", phase="idle")
                return piece
            case AwaitHead():
                call = cast("Call", action.upstream)
                return call.head_arrived() or (False if self._timed_out else WAITING)
            case ReceiveAny(upstreams):
                return self._next_arrival(cast("tuple[Call, ...]", upstreams))
            case AwaitSlot(queued):
                return self._collaborators.admission.outcome(cast("Waiter", queued.waiting)) or WAITING
            case Verify() | Compute() | Count() | LookForModels():
                task = self._task
                return WAITING if task is None or not task.done() else task.result()
            case None:
                return WAITING
            case _:
                assert_never(action)

    def _cancel(self) -> None:
        """Give up what is waited for; what comes of it all the same is undone."""
        if isinstance(self._action, AwaitSlot):
            self._collaborators.admission.leave(cast("Waiter", self._action.queued.waiting))
        task = self._task
        if isinstance(self._action, Count) and task is not None and task.done() and task.exception() is None:
            task.result().settle(0)
        elif isinstance(self._action, Verify | Compute | Count) and task is not None:
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
        """The exchange has ended."""
        self._body_ended()
        if self._pump is not None:
            self._pump.cancel()

    def _await(self, task: asyncio.Future[Any]) -> None:
        self._task = task
        task.add_done_callback(lambda _: self.wake())

    def _time_is_up(self) -> None:
        self._timed_out = True
        self.wake()

    # servers ----------------------------------------------------------------------------------------------------------

    def _send(self, request: Outgoing) -> Call:
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
            ),
            self.wake,
        )
        if isinstance(request.body, TeeReader):
            self._readers[call] = request.body
        return call

    def _release(self, calls: tuple[Call, ...]) -> None:
        for call in calls:
            call.close()
            if call in self._readers:
                self._readers.pop(call).leave()

    def _stream(self, readers: int) -> tuple[TeeReader, ...]:
        tee = Tee(self._pieces(), readers)
        self._pump = asyncio.get_running_loop().create_task(tee.pump())
        return tee.readers

    def _next_arrival(self, calls: tuple[Call, ...]) -> Arrival | Literal[Waiting.WAITING] | None:
        """What has come from any of them; each has its turn to be asked first."""
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


def _next_piece(call: Call) -> Piece | Literal[Waiting.WAITING]:
    data = call.take()
    return Piece(data, call.complete) if data or call.complete else WAITING
