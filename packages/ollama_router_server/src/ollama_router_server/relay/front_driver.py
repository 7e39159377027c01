"""The driver of an exchange on the HTTP/1.1 front: driven by callbacks, so that most requests need no task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar, get_args

import structlog

from ollama_router_core.exchange.actions import Action, Cut, Finish, ReadBody, Record, Verify, Write, WriteHead
from ollama_router_core.exchange.events import ClientLeft, Interruption
from ollama_router_core.exchange.machine import Exchange
from ollama_router_server.http.cycle import FrontCycle
from ollama_router_server.relay.bodies import IncomingBody, body_pieces
from ollama_router_server.relay.collaborators import Collaborators
from ollama_router_server.relay.driver import Driver, Handler
from ollama_router_server.relay.result_poller import WAITING

__all__ = ["FrontDriver"]

_log = structlog.get_logger("relay")


class FrontDriver(Driver):
    """One exchange on one cycle of the front."""

    __slots__ = ("_cycle", "_ended", "_leaves", "_running", "exchange")

    def __init__(self, collaborators: Collaborators, exchange: Exchange, cycle: FrontCycle) -> None:
        super().__init__(collaborators)
        self.exchange = exchange
        self._cycle = cycle
        self._running = self._ended = self._leaves = False

    def start(self) -> None:
        """Start the exchange and run it until an action has to wait; the front's callbacks continue it."""
        cycle = self._cycle
        cycle.on_leave, cycle.on_drained = self._left, self.wake
        self._run(self.exchange.resume, None)

    def interrupt(self, reason: Interruption) -> None:
        """End the exchange; no effect once its response is complete."""
        if self._ended or self._cycle.response_complete:
            return
        if self._running:
            self._cycle.call_soon(self.interrupt, reason)
            return
        self._cancel()
        self._run(self.exchange.interrupt, reason)

    def wake(self) -> None:
        """Poll the pending action; continue if it has a result."""
        if self._running or self._ended:
            return
        try:
            result = self._poll()
        except Exception as error:  # noqa: BLE001 - the machine raises errors that are not the router's
            self._run(self.exchange.fail, error)
            return
        if result is not WAITING:
            self._run(self.exchange.resume, result)

    def _left(self) -> None:
        """Interrupt on client disconnect; during verification, only after it, so that the record names the user."""
        if self._pending is not None and isinstance(self._pending.action, Verify):
            self._leaves = True
        else:
            self.interrupt(ClientLeft())

    def _run(self, step: Callable[[Any], Action | None], argument: object) -> None:
        """Run this step and the next ones until an action has to wait or the exchange ends."""
        self._running = True
        try:
            action = step(argument)
            while action is not None:
                if self._leaves:
                    self._leaves = False
                    action = self.exchange.interrupt(ClientLeft())
                    continue
                try:
                    result = self.handlers[type(action)](self, action)
                except Exception as error:  # noqa: BLE001 - as in `wake`
                    action = self.exchange.fail(error)
                    continue
                if result is WAITING:
                    self._cycle.flush()
                    return
                action = self.exchange.resume(result)
        except Exception:  # noqa: BLE001 - there is no task whose failure would cut the connection
            _log.exception("exchange_failed", request_id=self.exchange.context.id)
        finally:
            self._running = False
        self._end()

    def _write(self, action: Write) -> Any:
        return self._wait(action, self._drained) if self._cycle.put(action.data) else None

    def _drained(self, _action: Write, _timed_out: bool) -> Any:  # noqa: FBT001 - a `Poll`
        return WAITING if self._cycle.flow.write_paused else None

    def _write_head(self, action: WriteHead) -> None:
        self._cycle.begin(action.status, action.fields)

    def _finish(self, action: Finish) -> None:
        self._cycle.put(action.data, more=False)

    def _cut(self, action: Cut) -> None:
        del action
        self._cycle.cut()

    def _read_body(self, action: ReadBody) -> Any:
        self._body = IncomingBody(self.exchange.context, action, self._collaborators)
        self._cycle.on_body = self.wake
        self._cycle.want_body()
        return self._wait(action, self._whole_body)

    def _whole_body(self, _action: ReadBody, _timed_out: bool) -> Any:  # noqa: FBT001 - a `Poll`
        cycle, body = self._cycle, self._body
        if body is None:
            return WAITING
        piece = cycle.take_body()
        body.add(piece, more=cycle.more_body)
        if cycle.more_body:
            return WAITING
        cycle.on_body = None
        return body.whole()

    def _record(self, action: Record) -> None:
        self._collaborators.record(self.exchange.context, action.row)

    async def _pieces(self) -> AsyncIterator[bytes]:
        async for piece in body_pieces(self._cycle.receive):
            self.exchange.context.bytes_in += len(piece)
            yield piece

    def _end(self) -> None:
        self._ended = True
        self._close()
        cycle = self._cycle
        cycle.on_leave = cycle.on_drained = cycle.on_body = None
        if not cycle.response_complete and not cycle.disconnected:
            cycle.cut()

    handlers: ClassVar[Mapping[type, Handler]] = {
        **Driver.handlers,
        Write: _write,
        WriteHead: _write_head,
        Finish: _finish,
        Cut: _cut,
        ReadBody: _read_body,
        Record: _record,
    }


if _missing := {*get_args(Action)} - {*FrontDriver.handlers}:
    raise LookupError(f"no handlers for {_missing}")
