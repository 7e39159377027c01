"""Keys are masked wherever a stream is cut and however they are spelled, and everything else passes as it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.exchange.key_redaction import Redactor
from ollama_router_core.outbound.echoes import echoed

KEY = b"abcabd"
ODD = b'sk-a/b+"c%41'


def passed(pieces: list[bytes], key: bytes = KEY) -> bytes:
    """What a client gets of these pieces."""
    redactor = Redactor((key,))
    return b"".join([*(redactor.feed(piece) for piece in pieces), redactor.end()])


def spellings(byte: int) -> list[bytes]:
    """Ways to write one character."""
    one = bytes([byte])
    short = [b"\\" + one, b"\\\\\\" + one] if one in b'"\\/' else []
    return [
        one,
        b"\\u%04x" % byte,
        b"\\u%04X" % byte,
        b"\\\\u%04x" % byte,
        b"%%%02x" % byte,
        b"%%25%02X" % byte,
        *short,
    ]


@given(st.lists(st.sampled_from([b"abc", b"abd", b"a", b"b", b"c", b"d", KEY, b"x"]), max_size=30))
def test_a_key_is_masked_wherever_it_is_cut(pieces: list[bytes]) -> None:
    """The law: what passes is the whole with each key replaced by a mask of its length."""
    assert passed(pieces) == b"".join(pieces).replace(KEY, b"*" * len(KEY))


@given(st.data(), st.sampled_from([KEY, ODD]), st.integers(1, 9))
def test_a_key_is_masked_however_it_is_spelled(data: st.DataObject, key: bytes, size: int) -> None:
    """Each character as it is, escaped as in JSON, percent-encoded, or so once more; cut anywhere."""
    spelled = b"".join(data.draw(st.sampled_from(spellings(byte))) for byte in key)
    whole = b'{"error": "' + spelled + b'"}'
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert passed(pieces, key) == b'{"error": "' + b"*" * len(spelled) + b'"}'


@pytest.mark.parametrize("quote", [json.dumps, lambda text: json.dumps(json.dumps(text))[1:-1]])
def test_a_key_in_a_quoted_answer_is_masked(quote: object) -> None:
    """A host that puts another's answer into its own escapes it again."""
    text = quote(ODD.decode()).encode()  # type: ignore[operator]
    assert b"sk-" not in passed([text], ODD)
    assert set(passed([text], ODD).strip(b'"\\')) == {ord("*")}


@given(st.binary(max_size=200), st.integers(1, 7))
def test_other_bytes_pass_at_once(data: bytes, size: int) -> None:
    """No more is held back than could be the beginning of a key, and nothing is lost."""
    redactor = Redactor((KEY,))
    out = []
    for start in range(0, len(data), size):
        out.append(redactor.feed(data[start : start + size]))
        assert data.startswith(b"".join(out))
        held = data[len(b"".join(out)) : start + size]
        assert not held or held[:1] in b"a\\%"
    assert b"".join([*out, redactor.end()]) == data


def test_what_is_searched_for_the_beginning_of_a_key_is_short() -> None:
    """However long a piece is, the last bytes alone decide what is held back."""
    secret = echoed(KEY)
    assert secret.held_back(b"abcab" * 100_000 + b"x") == 0
    assert secret.held_back(b"x" * 100_000 + b"abcab") == 5
