"""Lock-free messages from one writer to several readers through shared memory: the newest 256 KiB.

    words: head, tail | bytes: length, CRC-32, message; length, CRC-32, message; ...

`head` and `tail` count the bytes ever written and dropped. The writer moves `tail` before it overwrites, so that an
overtaken reader detects it afterwards; the checksum detects an overwrite during a read.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

__all__ = ["Ring"]

_SIZE: Final = 262_144
_HEADER: Final = struct.Struct("<II")
_HEAD, _TAIL = 0, 1
_WORD = 8


class Ring:
    """The messages of one writer. `words` has `Ring.WORDS` items."""

    WORDS: Final = 2 + _SIZE // _WORD

    __slots__ = ("_bytes", "_ends")

    def __init__(self, words: memoryview) -> None:
        self._ends = words[:2]
        self._bytes = words[2:].cast("B")

    @property
    def tail(self) -> int:
        """The position of the oldest message."""
        return int(self._ends[_TAIL])

    def write(self, message: bytes) -> None:
        """Append a message; drop it if it is longer than a quarter of the ring."""
        framed = _HEADER.pack(len(message), zlib.crc32(message)) + message
        if len(framed) > _SIZE // 4:
            return
        head, tail = int(self._ends[_HEAD]), self.tail
        while head + len(framed) - tail > _SIZE:
            length, _ = _HEADER.unpack(self._read(tail, _HEADER.size))
            tail += _HEADER.size + length
        self._ends[_TAIL] = tail
        start = head % _SIZE
        first = min(len(framed), _SIZE - start)
        self._bytes[start : start + first] = framed[:first]
        self._bytes[: len(framed) - first] = framed[first:]
        self._ends[_HEAD] = head + len(framed)

    def read(self, position: int) -> tuple[list[bytes], int]:
        """Return the messages from a position on, and the position for the next read."""
        head = int(self._ends[_HEAD])
        position = max(position, self.tail)
        data = self._read(position, max(0, head - position))
        if position < self.tail:
            return [], self.tail  # overtaken
        messages: list[bytes] = []
        at = 0
        while at < len(data):
            length, checksum = _HEADER.unpack_from(data, at)
            message = data[at + _HEADER.size : at + _HEADER.size + length]
            if zlib.crc32(message) != checksum:
                return messages, head
            messages.append(message)
            at += _HEADER.size + length
        return messages, head

    def _read(self, position: int, length: int) -> bytes:
        start = position % _SIZE
        first = min(length, _SIZE - start)
        return bytes(self._bytes[start : start + first]) + bytes(self._bytes[: length - first])
