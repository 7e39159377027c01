"""Compressed bodies: the work is bounded by the bytes that came."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.errors import InvalidBody
from ollama_router_core.exchange.actions import ReadBody
from ollama_router_server.relay import bodies
from ollama_router_server.relay.bodies import decoded

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ASKED = ReadBody(32 * 1024 * 1024, compressed=True)
EMPTY_FRAME = bytes.fromhex("28b52ffd2000010000")
DECOMPRESSOR = zstd.ZstdDecompressor


class CountingDecompressor:
    """A decoder that counts the bytes it is fed, over all decoders."""

    fed = 0

    def __init__(self, **options: object) -> None:
        self._decoder = DECOMPRESSOR(**options)  # type: ignore[arg-type]

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress as the real one does."""
        CountingDecompressor.fed += len(data)
        return self._decoder.decompress(data, max_length=max_length)

    @property
    def unused_data(self) -> bytes:
        """What follows the frame."""
        return self._decoder.unused_data

    @property
    def eof(self) -> bool:
        """Whether the frame is complete."""
        return self._decoder.eof


def bytes_fed(body: bytes) -> int:
    """How many bytes decoders were fed until the body was read or rejected."""
    CountingDecompressor.fed = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies.zstd, "ZstdDecompressor", CountingDecompressor)
        with suppress(InvalidBody):
            decoded(body, ASKED)
    return CountingDecompressor.fed


@pytest.mark.parametrize("count", [1, 64])
def test_frames_up_to_the_limit_are_one_body(count: int) -> None:
    """A client may write its body in several frames."""
    piece = b"x" * 10_000
    assert decoded(zstd.compress(piece) * count, ASKED) == piece * count


def test_more_frames_than_the_limit_are_rejected() -> None:
    """Half a million empty frames are refused after the 64th."""
    with pytest.raises(InvalidBody, match="more than 64 frames"):
        decoded(EMPTY_FRAME * 170_000, ASKED)
    assert bytes_fed(EMPTY_FRAME * 170_000) <= 65 * 64 * 1024


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8), st.integers(1, 400))
def test_the_bytes_touched_grow_no_faster_than_the_body(contents: list[bytes], times: int) -> None:
    """Beyond the first 64 slices each byte is fed to one decoder."""
    body = b"".join(zstd.compress(content) for content in contents) * times
    assert bytes_fed(body) <= len(body) + 64 * 64 * 1024


def test_a_frame_in_many_slices_is_read() -> None:
    """A frame larger than a slice goes through one decoder."""
    content = bytes(range(256)) * 4096
    body = _stored(content)
    assert decoded(body, ASKED) == content
    assert bytes_fed(body) == len(body)


def _stored(content: bytes) -> bytes:
    """A frame of raw blocks, as large as what it holds (RFC 8878 3.1.1)."""
    head = bytes.fromhex("28b52ffd") + b"\xa0" + len(content).to_bytes(4, "little")
    blocks = [content[start : start + 65_536] for start in range(0, len(content), 65_536)]
    last = len(blocks) - 1
    return head + b"".join(
        ((len(block) << 3) | (number == last)).to_bytes(3, "little") + block for number, block in enumerate(blocks)
    )
