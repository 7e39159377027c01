"""Keys are masked wherever a stream is cut, and everything else passes as it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.exchange.redaction import Redactor

KEY = b"abcabd"


def passed(pieces: list[bytes]) -> bytes:
    """What a client gets of these pieces."""
    redactor = Redactor((KEY,))
    return b"".join([*(redactor.feed(piece) for piece in pieces), redactor.end()])


@given(st.lists(st.sampled_from([b"abc", b"abd", b"a", b"b", b"c", b"d", KEY, b"x"]), max_size=30))
def test_a_key_is_masked_wherever_it_is_cut(pieces: list[bytes]) -> None:
    """The law: what passes is the whole with each key replaced by a mask of its length."""
    assert passed(pieces) == b"".join(pieces).replace(KEY, b"*" * len(KEY))


@given(st.binary(max_size=60), st.integers(1, 7))
def test_other_bytes_pass_at_once(data: bytes, size: int) -> None:
    """No more is held back than could be the beginning of a key."""
    redactor = Redactor((KEY,))
    held = 0
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        held += len(piece) - len(redactor.feed(piece))
        assert 0 <= held < len(KEY)
