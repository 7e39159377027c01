"""The asynchronous driver: performs the I/O of tasks on asyncio or trio, without decisions of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, TypeVar, assert_never, cast

import anyio

from ollama_router_core.client.async_upstream import CLOSING_SECONDS, AsyncUpstream, BackgroundTasks, Waits
from ollama_router_core.client.connection_pools import ConnectionPool
from ollama_router_core.client.fleet_queries import query_server, send_load_probe
from ollama_router_core.client.tasks import Call, Output, Query, Task, Wait
from ollama_router_core.client.transport import FIRST_FACTS_SECONDS, LONGEST_PAUSE
from ollama_router_core.client.transport_state import State
from ollama_router_core.exchange.actions import (
    AwaitHead,
    AwaitSlot,
    LookForModels,
    Outgoing,
    Receive,
    ReceiveAny,
    Release,
    Steps,
    WriteHead,
)
from ollama_router_core.exchange.events import Queued, Refused
from ollama_router_core.exchange.fan_out import ask_fleet
from ollama_router_core.exchange.server_slot import ServerSlot, Waiter

__all__ = ["AsyncDriver"]

_Result = TypeVar("_Result")


class AsyncDriver:
    """Drive the tasks of one transport; `inner` is the transport that the program supplied, if any."""

    def __init__(self, state: State, inner: Any) -> None:
        self._state = state
        self._given = inner
        self._pool = ConnectionPool(state.clock)
        self._tasks = BackgroundTasks()
        self._waits = Waits()
        state.fleet.on_lost(self._waits.give_up)

    def call(self, library: Any, request: Any, body: bytes) -> Call:
        """Begin a program's request."""
        return Call(self._state, library, self._open, request, body, self._tasks.notify)

    async def answer(self, call: Call) -> AsyncGenerator[Output, None]:
        """Yield the head of the response, then its pieces; closing the generator early abandons the exchange.

        Raises:
            TransportError: the response is incomplete; the class is the call's library's.
        """
        try:
            step = call.resume()
            while step is not None:
                if isinstance(step, WriteHead | bytes):
                    yield step
                    step = call.advance()
                else:
                    step = await self._carry_out(call, step)
        except BaseException:
            await self._give_up(call)
            raise
        if call.exception is not None:
            raise call.exception

    async def drive(self, library: Any, steps: Steps[_Result]) -> _Result:
        """Run steps outside a program's request; return their result."""
        query = Query(self._state, library, self._open, steps)
        await self._work(query)
        return cast("_Result", query.value)

    async def await_facts(self, library: Any) -> None:
        """Wait for facts about servers that were never queried; query those that are due in the background."""
        fleet = self._state.fleet
        unknown = fleet.has_unknown()
        names = fleet.claim(unknown_only=unknown)
        for name in names:
            self._tasks.start(partial(self._query_server, library, name))
        if unknown:
            await self._tasks.wait_for(lambda: not fleet.has_unknown(), FIRST_FACTS_SECONDS)

    async def aclose(self) -> None:
        """Close every connection and cancel background work."""
        await self._tasks.aclose()
        await (self._pool if self._given is None else self._given).aclose()

    async def _query_server(self, library: Any, name: str) -> None:
        probe = await self.drive(library, query_server(self._state, name))
        if probe is not None:
            await self.drive(library, send_load_probe(self._state, probe))

    # --- driving ------------------------------------------------------------------------------------------------------

    async def _work(self, query: Query[Any]) -> None:
        try:
            step = query.resume()
            while step is not None:
                step = await self._carry_out(query, cast("Wait", step))
                self._state.admission.facts_changed()
                self._tasks.notify()
        finally:
            await self._give_up(query)

    async def _give_up(self, task: Task) -> None:
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            step = task.give_up()
            while step is not None:
                step = task.advance() if isinstance(step, WriteHead | bytes) else await self._carry_out(task, step)

    async def _carry_out(self, task: Task, wait: Wait) -> Output | Wait | None:
        try:
            result = await self._wait_for(task, wait)
        except Exception as error:  # noqa: BLE001 - the machine ends, and raises what is no error of the router's
            failure = error
        else:
            return task.resume(result)
        return task.fail(failure)

    async def _wait_for(self, task: Task, wait: Wait) -> object:
        match wait:
            case AwaitHead():
                await _ours(wait.upstream).open()
                return True
            case Receive():
                return await _ours(wait.upstream).receive()
            case ReceiveAny():
                return await self._tasks.receive_any(task, [_ours(one) for one in wait.upstreams], wait.seconds)
            case Release():
                for upstream in wait.upstreams:
                    await self._tasks.release(task, _ours(upstream))
                return None
            case AwaitSlot():
                return await self._await_slot(task, wait.queued)
            case LookForModels():
                return await self._look_for_models(task.library)
            case _:
                assert_never(wait)

    async def _await_slot(self, task: Task, queued: Queued) -> ServerSlot | Refused:
        admission, now = self._state.admission, self._state.clock.monotonic
        waiter = cast("Waiter", queued.waiting)
        try:
            while True:
                await self.await_facts(task.library)
                at = admission.next_look()
                pause = LONGEST_PAUSE if at is None else min(LONGEST_PAUSE, max(0.0, at - now()))
                await self._tasks.wait_for(lambda: waiter.outcome, pause)
                outcome = waiter.outcome
                if outcome is not None:
                    return outcome
                admission.look()
        except BaseException:
            queued.leave()
            raise

    async def _look_for_models(self, library: Any) -> bool:
        fleet = self._state.fleet
        if fleet.looking:
            await self._tasks.wait_for(lambda: not fleet.looking, FIRST_FACTS_SECONDS)
            return True
        if not fleet.may_look_again():
            return False
        fleet.looking = True
        try:
            await self.drive(library, ask_fleet(self._state.environment, "/api/tags"))
        finally:
            fleet.looking = False
            self._tasks.notify()
        return True

    def _open(self, task: Task, request: Outgoing) -> AsyncUpstream:
        return AsyncUpstream(self._given, self._pool, self._waits, task, request)


def _ours(upstream: object) -> AsyncUpstream:
    return cast("AsyncUpstream", upstream)
