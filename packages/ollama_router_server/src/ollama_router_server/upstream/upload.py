"""Upload of a request body as it arrives, chunked or with its declared length."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

__all__ = ["send_body"]

_COPIED: Final = 16 * 1024
"""Maximum bytes of a chunk that is copied to join it with its framing."""

Write = Callable[[bytes], None]


async def send_body(
    body: AsyncIterator[bytes], length: int | None, write: Write, drained: Callable[[], Awaitable[None]]
) -> None:
    """Write a body of `length` bytes, or chunked if that is None; `drained` applies the server's backpressure.

    Raises:
        ValueError: the body's length differs.
        Exception: an error of the body.
    """
    left = length
    async for chunk in body:
        if not chunk:
            continue
        if left is None:
            _write_chunk(chunk, write)
        else:
            left -= len(chunk)
            if left < 0:
                raise ValueError("the request body is longer than its declared length")
            write(chunk)
        await drained()
    if left is None:
        write(b"0\r\n\r\n")
    elif left:
        raise ValueError("the request body ended before its declared length")


def _write_chunk(chunk: bytes, write: Write) -> None:
    """Frame and write a chunk; a large one is not copied."""
    if len(chunk) <= _COPIED:
        write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    else:  # three writes: in some versions of asyncio, `writelines` does not pause the writer
        write(b"%x\r\n" % len(chunk))
        write(chunk)
        write(b"\r\n")
