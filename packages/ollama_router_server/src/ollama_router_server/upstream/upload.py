"""A request's body that is sent as it comes, in chunks or to its declared length."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

__all__ = ["send_body"]

_COPIED: Final = 16 * 1024
"""Chunks up to this are joined with their framing."""

Write = Callable[[bytes], None]


async def send_body(
    body: AsyncIterator[bytes], length: int | None, write: Write, drained: Callable[[], Awaitable[None]]
) -> None:
    """Write a body of `length` bytes, or in chunks if that is None; `drained` waits while the server takes too little.

    Raises:
        ValueError: the body has another length.
        Exception: whatever the body raises.
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
    """Frame a chunk; a large one is not copied for the sake of that: it may have to wait in memory."""
    if len(chunk) <= _COPIED:
        write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    else:  # three writes, as `writelines` of some versions of asyncio does not pause whom it should
        write(b"%x\r\n" % len(chunk))
        write(chunk)
        write(b"\r\n")
