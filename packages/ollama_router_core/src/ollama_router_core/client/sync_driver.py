"""The synchronous driver: performs the I/O of tasks with blocking calls, without decisions of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar, assert_never, cast

from ollama_router_core.client.connection_pools import pooled_transport
from ollama_router_core.client.fleet_queries import query_server, send_load_probe
from ollama_router_core.client.sync_upstream import BackgroundThreads, SyncUpstream
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
from ollama_router_core.fleet.load_probes import LoadProbe

__all__ = ["SyncDriver"]

_Result = TypeVar("_Result")


class SyncDriver:
    """Drive the tasks of one transport; `inner` is the transport that the program supplied, if any."""

    def __init__(self, state: State, inner: Any) -> None:
        self._state = state
        self._given = inner
        self._inner: dict[str, Any] = {}
        self._threads = BackgroundThreads()
        self._changed = self._threads.changed
        self._probing: set[SyncUpstream] = set()
        self._closed = False

    def call(self, library: Any, request: Any, body: bytes) -> Call:
        """Begin a program's request."""
        with self._changed:
            return Call(self._state, library, self._open, request, body, self._threads.notify)

    def answer(self, call: Call) -> Generator[Output, None, None]:
        """Yield the head of the response, then its pieces; closing the generator early abandons the exchange.

        Raises:
            TransportError: the response is incomplete; the class is the call's library's.
        """
        try:
            step = self._step(call.resume)
            while step is not None:
                if isinstance(step, WriteHead | bytes):
                    yield step
                    step = call.advance()
                else:
                    step = self._carry_out(call, step)
        except BaseException:
            self._give_up(call)
            raise
        if call.exception is not None:
            raise call.exception

    def drive(self, library: Any, steps: Steps[_Result]) -> _Result:
        """Run steps outside a program's request; return their result."""
        query = Query(self._state, library, self._open, steps)
        self._work(query)
        return cast("_Result", query.value)

    def await_facts(self, library: Any) -> None:
        """Wait for facts about servers that were never queried; query those that are due in the background."""
        fleet = self._state.fleet
        with self._changed:
            unknown = fleet.has_unknown()
            names = fleet.claim(unknown_only=unknown)
        for name in names:
            self._threads.start(self._query_server, library, name)
        if unknown:
            with self._changed:
                self._changed.wait_for(lambda: not fleet.has_unknown(), FIRST_FACTS_SECONDS)

    def close(self) -> None:
        """Close every connection and wait for background work."""
        with self._changed:
            self._closed = True
            for upstream in self._probing:
                upstream.end()
        self._threads.join()
        for inner in self._inner.values() if self._given is None else (self._given,):
            inner.close()

    def _query_server(self, library: Any, name: str) -> None:
        probe = self.drive(library, query_server(self._state, name))
        if probe is not None and not self._closed:
            self._send_load_probe(library, probe)

    def _send_load_probe(self, library: Any, probe: LoadProbe) -> None:
        """Send a load probe on its own connection, which `close` can end, as the response may take minutes."""
        transport = pooled_transport(library, self._origins()) if self._given is None else self._given
        upstreams: list[SyncUpstream] = []

        def sent(task: Task, request: Outgoing) -> SyncUpstream:
            upstreams.append(SyncUpstream(transport, task, request))
            self._probing.add(upstreams[-1])
            return upstreams[-1]

        try:
            self._work(Query(self._state, library, sent, send_load_probe(self._state, probe)))
        finally:
            with self._changed:
                self._probing.difference_update(upstreams)
            if transport is not self._given:
                transport.close()

    # --- driving ------------------------------------------------------------------------------------------------------

    def _work(self, query: Query[Any]) -> None:
        try:
            step = self._step(query.resume)
            while step is not None and not self._closed:
                step = self._carry_out(query, cast("Wait", step))
                with self._changed:
                    self._state.admission.facts_changed()
                    self._changed.notify_all()
        finally:
            self._give_up(query)

    def _give_up(self, task: Task) -> None:
        step = self._step(task.give_up)
        while step is not None:
            step = task.advance() if isinstance(step, WriteHead | bytes) else self._carry_out(task, step)

    def _carry_out(self, task: Task, wait: Wait) -> Output | Wait | None:
        try:
            result = self._wait_for(task, wait)
        except Exception as error:  # noqa: BLE001 - the machine ends, and raises what is no error of the router's
            failure = error
        else:
            return self._step(lambda: task.resume(result))
        return self._step(lambda: task.fail(failure))

    def _step(self, step: Callable[[], Output | Wait | None]) -> Output | Wait | None:
        with self._changed:
            return step()

    def _wait_for(self, task: Task, wait: Wait) -> object:
        match wait:
            case AwaitHead():
                _ours(wait.upstream).open()
                return True
            case Receive():
                return _ours(wait.upstream).receive()
            case ReceiveAny():
                return self._threads.receive_any(task, [_ours(one) for one in wait.upstreams], wait.seconds)
            case Release():
                for upstream in wait.upstreams:
                    self._threads.release(task, _ours(upstream))
                return None
            case AwaitSlot():
                return self._await_slot(task, wait.queued)
            case LookForModels():
                return self._look_for_models(task.library)
            case _:
                assert_never(wait)

    def _await_slot(self, task: Task, queued: Queued) -> ServerSlot | Refused:
        admission, now = self._state.admission, self._state.clock.monotonic
        waiter = cast("Waiter", queued.waiting)
        try:
            while True:
                self.await_facts(task.library)
                with self._changed:
                    at = admission.next_look()
                    pause = LONGEST_PAUSE if at is None else min(LONGEST_PAUSE, max(0.0, at - now()))
                    self._changed.wait_for(lambda: waiter.outcome, pause)
                    outcome = waiter.outcome
                    if outcome is not None:
                        return outcome
                    admission.look()
        except BaseException:
            with self._changed:
                queued.leave()
            raise

    def _look_for_models(self, library: Any) -> bool:
        fleet = self._state.fleet
        with self._changed:
            if fleet.looking:
                return self._changed.wait_for(lambda: not fleet.looking, FIRST_FACTS_SECONDS)
            if not fleet.may_look_again():
                return False
            fleet.looking = True
        try:
            self.drive(library, ask_fleet(self._state.environment, "/api/tags"))
        finally:
            with self._changed:
                fleet.looking = False
                self._changed.notify_all()
        return True

    def _open(self, task: Task, request: Outgoing) -> SyncUpstream:
        if request.preemption is not None and self._given is None:  # only a dedicated connection can be shut down
            return SyncUpstream(pooled_transport(task.library, self._origins()), task, request, owned=True)
        return SyncUpstream(self._inner_for(task.library), task, request)

    def _inner_for(self, library: Any) -> Any:
        if self._given is not None:
            return self._given
        name = library.__name__
        with self._changed:
            if name not in self._inner:
                self._inner[name] = pooled_transport(library, self._origins())
            return self._inner[name]

    def _origins(self) -> list[str]:
        return [one.base_url for one in self._state.environment.destinations.values()]


def _ours(upstream: object) -> SyncUpstream:
    return cast("SyncUpstream", upstream)
