"""A request body streamed as it arrives, to one server or to several at once.

If the client disconnects midway, every reader raises, so that no server takes a partial body as complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

__all__ = ["Tee", "TeeReader"]

_Item = bytes | BaseException | None


class TeeReader:
    """One reader of the pieces; after `leave`, one that stopped early or never started no longer blocks the others."""

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
        """Stop reading."""
        self.has_left = True
        self._done_with_last()
        while not self.queue.empty():
            self.queue.get_nowait()
            self.queue.task_done()

    async def aclose(self) -> None:
        """Stop reading."""
        self.leave()


class Tee:
    """Fan one source out to several readers; `pump` runs alongside them.

    The next piece is read once every reader has asked for more, so that nothing is buffered and the slowest server sets
    the pace. A piece is one read from the client, 250 KiB at most.
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
        """Stop reading the source."""
        if self._pumping is not None:
            self._pumping.cancel()

    def sent(self, reader: TeeReader, call: object) -> None:
        """Register the request to a server whose body a reader is."""
        self._sent[call] = reader

    def released(self, call: object) -> None:
        """Detach the reader of a request that has ended, even if it never started."""
        reader = self._sent.pop(call, None)
        if reader is not None:
            reader.leave()

    async def pump(self) -> None:
        """Read the source to its end, or until every reader has left. Every reader raises an error of the source."""
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
