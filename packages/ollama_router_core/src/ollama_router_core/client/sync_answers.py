"""Answers of the synchronous twin: read as a whole, or passed to the program piece by piece, or made for it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from ollama_router_core.client.bodies import AnswerBody, Whole
from ollama_router_core.client.libraries import failure_of
from ollama_router_core.client.steps import Failure, Head, Step, Wait

__all__ = ["Making", "Reading", "read"]


def read(head: Head, most: int, feed: Callable[[bytes], bool] | None = None) -> bytes | Failure:
    """The body of an answer, cut after about `most` bytes; none of it if a `feed` gets the pieces. It is closed."""
    whole = Whole(most)
    take = feed or whole.take
    stream = head.stream
    try:
        for piece in stream:
            if not take(piece):
                break
    except Exception as error:
        failure = failure_of(head.library, error, head.destination.name)
        if failure is None:
            raise
        return failure
    finally:
        stream.close()
    return whole.content()


class Reading:
    """A server's stream through an answer's body; lets go of both in `close`, as httpx's responses are cycles."""

    def __init__(self, head: Head, body: AnswerBody) -> None:
        self._passed: tuple[Head, AnswerBody] | None = (head, body)

    def __iter__(self) -> Iterator[bytes]:
        if self._passed is None:
            return iter(())
        return self._fed(*self._passed)

    def _fed(self, head: Head, body: AnswerBody) -> Iterator[bytes]:
        try:
            for piece in head.stream:
                if written := body.feed(piece):
                    yield written
                if body.failure is not None:
                    break
        except Exception as error:
            if tail := body.broke(error):
                yield tail
            raise
        if tail := body.finish():
            yield tail
        if body.failure is not None:
            raise head.library.RemoteProtocolError(body.failure.message)

    def close(self) -> None:
        """Close the answer."""
        if self._passed is not None:
            (head, body), self._passed = self._passed, None
            head.stream.close()
            body.close()


class Making:
    """An answer's body that is made by steps."""

    def __init__(self, do: Callable[[Step], Any], steps: Generator[Wait | bytes, None, None]) -> None:
        self._do = do
        self._steps = steps

    def __iter__(self) -> Iterator[bytes]:
        for step in self._steps:
            if isinstance(step, bytes):
                yield step
            else:
                self._do(step)

    def close(self) -> None:
        """Make no more of it."""
        self._steps.close()
