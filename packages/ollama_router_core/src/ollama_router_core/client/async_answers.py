"""Answers of the asynchronous twin: read as a whole, or passed to the program piece by piece, or made for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import anyio

from ollama_router_core.client.bodies import AnswerBody, Whole
from ollama_router_core.client.libraries import failure_of
from ollama_router_core.client.steps import Failure, Head, Step, Wait

__all__ = ["CLOSING_SECONDS", "Making", "Reading", "close", "read"]

CLOSING_SECONDS = 2.0
"""For closing what was cancelled or failed."""


async def close(head: Head, *, complete: bool) -> None:
    """Close an answer; its connection is kept only if the answer was read to its end."""
    if not complete:
        await _cut(head)
        return
    try:
        await head.stream.aclose()
    except BaseException:
        await _cut(head)
        raise
    surplus = None if head.lease is None else head.lease.give_back()
    if surplus is not None:
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            await surplus.aclose()


async def _cut(head: Head) -> None:
    """Close an answer with its connection, also in a task that is being cancelled."""
    with anyio.move_on_after(CLOSING_SECONDS, shield=True):
        await head.stream.aclose()
        if head.lease is not None:
            await head.lease.discard()


async def read(head: Head, most: int, feed: Callable[[bytes], bool] | None = None) -> bytes | Failure:
    """The body of an answer, cut after about `most` bytes; none of it if a `feed` gets the pieces. It is closed."""
    whole = Whole(most)
    take = feed or whole.take
    complete = False
    try:
        async for piece in head.stream:
            if not take(piece):
                break
        else:
            complete = True
    except Exception as error:
        failure = failure_of(head.library, error, head.destination.name)
        if failure is None:
            raise
        return failure
    finally:
        await close(head, complete=complete)
    return whole.content()


class Reading:
    """A server's stream through an answer's body; lets go of both in `aclose`, as httpx's responses are cycles."""

    def __init__(self, head: Head, body: AnswerBody) -> None:
        self._passed: tuple[Head, AnswerBody] | None = (head, body)
        self._complete = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._passed is None:
            return _each(())
        return self._fed(*self._passed)

    async def _fed(self, head: Head, body: AnswerBody) -> AsyncIterator[bytes]:
        try:
            async for piece in head.stream:
                if written := body.feed(piece):
                    yield written
                if body.failure is not None:
                    break
            self._complete = body.failure is None
        except Exception as error:
            if tail := body.broke(error):
                yield tail
            raise
        if tail := body.finish():
            yield tail
        if body.failure is not None:
            raise head.library.RemoteProtocolError(body.failure.message)

    async def aclose(self) -> None:
        """Close the answer."""
        if self._passed is not None:
            (head, body), self._passed = self._passed, None
            body.close()
            await close(head, complete=self._complete)


async def _each(pieces: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Making:
    """An answer's body that is made by steps."""

    def __init__(self, do: Callable[[Step], Awaitable[Any]], steps: Generator[Wait | bytes, None, None]) -> None:
        self._do = do
        self._steps = steps

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self._steps:
            if isinstance(step, bytes):
                yield step
            else:
                await self._do(step)

    async def aclose(self) -> None:
        """Make no more of it."""
        self._steps.close()
