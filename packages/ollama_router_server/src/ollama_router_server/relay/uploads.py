"""A request body that is passed on as it comes, to one server or to several at once.

A client that leaves in the middle makes every reader raise, so that no server takes a part for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

__all__ = ["Tee", "TeeReader"]

_Item = bytes | BaseException | None


class TeeReader:
    """The pieces for one reader; one that stops early, or never starts, holds nobody up once it has left."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[_Item] = asyncio.Queue()
        self.has_left = False
        self._in_hand = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        item = None if self.has_left else await self._next()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            self.leave()
            raise StopAsyncIteration
        return item

    async def _next(self) -> _Item:
        self._done_with_last()
        item = await self.queue.get()
        self._in_hand = True
        return item

    def _done_with_last(self) -> None:
        if self._in_hand:
            self._in_hand = False
            self.queue.task_done()

    def leave(self) -> None:
        """Read no more."""
        self.has_left = True
        self._done_with_last()
        while not self.queue.empty():
            self.queue.get_nowait()
            self.queue.task_done()

    async def aclose(self) -> None:
        """Read no more."""
        self.leave()


class Tee:
    """One source for several readers. `pump` runs beside them.

    The source is read again when every reader has asked for more, that is, has handed the last piece on: nothing waits
    here, and the slowest server sets the pace. A piece is one segment of the client's, 250 KiB at most.
    """

    def __init__(self, source: AsyncIterator[bytes], readers: int) -> None:
        self._source = source
        self._pumping: asyncio.Task[None] | None = None
        self._sent: dict[object, TeeReader] = {}
        self.readers = tuple(TeeReader() for _ in range(readers))

    def start(self) -> None:
        """Run `pump` as a task, until `stop`."""
        self._pumping = asyncio.get_running_loop().create_task(self.pump())

    def stop(self) -> None:
        """Read the source no further."""
        if self._pumping is not None:
            self._pumping.cancel()

    def sent(self, reader: TeeReader, call: object) -> None:
        """Note the request to a server that a reader is the body of."""
        self._sent[call] = reader

    def released(self, call: object) -> None:
        """Note that this request has ended: nobody may wait for its reader, which it need never have begun to read."""
        reader = self._sent.pop(call, None)
        if reader is not None:
            reader.leave()

    async def pump(self) -> None:
        """Read the source to its end, as long as anybody reads. What it raises is raised by every reader."""
        last: _Item = None
        try:
            async for piece in self._source:
                self._give(piece)
                del piece
                for reader in self.readers:
                    await reader.queue.join()
                if all(reader.has_left for reader in self.readers):
                    break
        except Exception as error:  # noqa: BLE001 - it belongs to the readers
            last = error
        self._give(last)

    def _give(self, item: _Item) -> None:
        for reader in self.readers:
            if not reader.has_left:
                reader.queue.put_nowait(item)
