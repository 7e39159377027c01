"""A request body that is passed on as it comes, to one server or to several at once.

A client that leaves in the middle makes every reader raise, so that no server takes a part for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ollama_router_core.errors import InvalidBody, RouterError
from ollama_router_server.relay.client import ClientGone
from ollama_router_server.relay.dispatch import Dispatch, Outgoing
from ollama_router_server.relay.exchange import Exchange, Headers

__all__ = ["Tee", "declared_length", "send_to_all"]

_AHEAD = 1
"""Pieces (one segment of the client's each, 250 KiB at most) that a fast server may be ahead of a slow one."""

_Item = bytes | BaseException | None


def declared_length(headers: Headers) -> int | None:
    """The request's Content-Length, None for a chunked body.

    Raises:
        InvalidBody: it is no number.
    """
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                raise InvalidBody("Content-Length must be a number of bytes")
            return int(value)
    return None


class Tee:
    """One source for several readers. Run `pump` beside them."""

    def __init__(self, source: AsyncIterator[bytes], readers: int) -> None:
        self._source = source
        self._queues: list[asyncio.Queue[_Item] | None] = [asyncio.Queue(_AHEAD) for _ in range(readers)]

    async def pump(self) -> None:
        """Read the source to its end, as long as anybody reads. What it raises is raised by every reader."""
        last: _Item = None
        try:
            async for piece in self._source:
                await self._give(piece)
                if not any(self._queues):
                    break
        except Exception as error:  # noqa: BLE001 - it belongs to the readers
            last = error
        await self._give(last)

    async def read(self, number: int) -> AsyncIterator[bytes]:
        """The pieces for one reader; one that stops early holds nobody up."""
        queue = self._queues[number]
        try:
            while queue is not None and (item := await queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.leave(number)

    def leave(self, number: int) -> None:
        """A reader reads no more, or never began to."""
        queue, self._queues[number] = self._queues[number], None
        while queue is not None and not queue.empty():
            queue.get_nowait()

    async def _give(self, item: _Item) -> None:
        for queue in tuple(self._queues):
            if queue is not None and queue in self._queues:
                await queue.put(item)


async def send_to_all(
    exchange: Exchange, names: tuple[str, ...], target: str, dispatch: Dispatch
) -> dict[str, tuple[int, str]]:
    """Upload the request's body to several servers at once; each one's status, and what it said.

    Raises:
        ClientGone: the client left before the body was complete; every server was cut off.
    """
    length = declared_length(exchange.headers)
    tee = Tee(exchange.client.pieces(), len(names))

    async def send(number: int, name: str) -> tuple[int, str]:
        body = tee.read(number)
        outgoing = Outgoing(method="POST", target=target, body=body, body_length=length, patient=True)
        try:
            reply = await dispatch.ask(exchange, name, outgoing)
        except RouterError as error:
            return error.status_hint, error.message
        finally:
            tee.leave(number)
        return reply.status, reply.body[:200].decode("utf-8", "replace")

    try:
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(tee.pump())
            asked = [group.create_task(send(number, name)) for number, name in enumerate(names)]
            await asyncio.wait(asked)
            pump.cancel()
    except BaseExceptionGroup as failures:
        if failures.subgroup(ClientGone) is not None:
            raise ClientGone from None
        raise
    return {name: task.result() for name, task in zip(names, asked, strict=True)}
