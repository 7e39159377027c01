"""The driver of an exchange under any ASGI server: a task that also watches for a client disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from ollama_router_core.exchange.actions import Action, Cut, Finish, ReadBody, Record, Verify, Write, WriteHead
from ollama_router_core.exchange.events import ClientLeft, Interruption, Shutdown
from ollama_router_core.exchange.machine import Exchange
from ollama_router_server.accounts.authentication import User
from ollama_router_server.relay.bodies import IncomingBody, Receive, Send, body_pieces
from ollama_router_server.relay.collaborators import Collaborators
from ollama_router_server.relay.driver import Handler
from ollama_router_server.relay.task_driver import TaskDriver

__all__ = ["AsgiDriver", "SessionDriver"]


class AsgiDriver(TaskDriver):
    """One exchange over ASGI's `receive` and `send`."""

    __slots__ = ("_finished", "_main", "_reason", "_receive", "_watch", "_write", "exchange")

    def __init__(self, collaborators: Collaborators, exchange: Exchange, receive: Receive, send: Send) -> None:
        super().__init__(collaborators)
        self.exchange = exchange
        self._receive = receive
        self._write = send
        self._finished = False
        self._main: asyncio.Task[Any] | None = None
        self._reason: Interruption | None = None
        self._watch: asyncio.Task[None] | None = None

    def interrupt(self, reason: Interruption) -> None:
        """End the exchange; no effect once its response is complete."""
        if self._main is not None and not self._finished and self._reason is None:
            self._reason = reason
            self._main.cancel()

    async def run(self) -> None:
        """Serve the request.

        Raises:
            Exception: an internal error, raised after the record is written; the server cuts the response.
        """
        self._main = asyncio.current_task()
        try:
            action = self.exchange.start()
            while action is not None:
                action = await self._next(action)
        finally:
            self._finished = True
            self._close()
            if self._watch is not None:
                self._watch.cancel()

    async def _next(self, action: Action) -> Action | None:
        try:
            result = await self._perform(action)
        except asyncio.CancelledError:
            self._cancel()
            return self.exchange.interrupt(self._interruption())
        except Exception as error:  # noqa: BLE001 - the machine raises errors that are not the router's
            self._cancel()
            return self.exchange.fail(error)
        return self.exchange.resume(result)

    def _interruption(self) -> Interruption:
        """Return why the task was cancelled: by `interrupt`, or by the server at the end of its grace period."""
        reason, task = self._reason, self._main
        if reason is None or task is None:
            return Shutdown()
        task.uncancel()
        return reason

    async def _perform(self, action: Action) -> Any:
        match action:
            case Write(data):
                await self._write({"type": "http.response.body", "body": data, "more_body": True})
            case WriteHead(status, fields):
                await self._write({"type": "http.response.start", "status": status, "headers": list(fields)})
            case Finish(data):
                self._finished = True
                await self._write({"type": "http.response.body", "body": data, "more_body": False})
            case Cut():
                self._finished = True  # the server cuts an incomplete response
            case ReadBody():
                return await self._read_body(action)
            case Record(row):
                self._collaborators.record(self.exchange.context, row)
            case _:
                return await self._result_of(action)
        return None

    async def _read_body(self, asked: ReadBody) -> bytes:
        body = self._body = IncomingBody(self.exchange.context, asked, self._collaborators)
        async for piece in body_pieces(self._receive):
            body.add(piece, more=True)
        self._watch = asyncio.get_running_loop().create_task(self._watch_for_leaving())
        return body.whole()

    async def _pieces(self) -> AsyncIterator[bytes]:
        async for piece in body_pieces(self._receive):
            self.exchange.context.bytes_in += len(piece)
            yield piece
        self._watch = asyncio.get_running_loop().create_task(self._watch_for_leaving())

    async def _watch_for_leaving(self) -> None:
        """Interrupt the exchange on disconnect; ASGI sends no other message after a body."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.interrupt(ClientLeft())


class SessionDriver(AsgiDriver):
    """One exchange of a user who is known in advance: the console's playground."""

    __slots__ = ("_user",)

    def __init__(
        self, collaborators: Collaborators, exchange: Exchange, receive: Receive, send: Send, *, user: User
    ) -> None:
        super().__init__(collaborators, exchange, receive, send)
        self._user = user

    def _verify(self, action: Verify) -> Any:
        return self._user if action.speaker is None else super()._verify(action)

    handlers: ClassVar[Mapping[type, Handler]] = {**AsgiDriver.handlers, Verify: _verify}
