"""What servers say about themselves is bounded and typed where it is read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.responses.server_documents import (
    LONGEST_DOCUMENT,
    MOST_MODELS,
    is_version,
    read_document,
    read_rows,
    words_of,
)
from support.json_texts import values


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "-Infinity", "9" * 5000])
def test_a_number_that_does_not_exist_is_left_out_and_named(number: str) -> None:
    """The rest of the row counts."""
    body = f'{{"models":[{{"name":"a","details":{{"context_length":{number},"family":"llama"}}}}]}}'.encode()
    document = read_document(body)
    assert read_rows(document, "models") == [{"name": "a", "details": {"family": "llama"}}]
    assert document.left_out == ("context_length",)


def test_a_lone_surrogate_is_read() -> None:
    """Python can write it down again; a strict decoder rejects it."""
    assert read_document(rb'{"a":"\ud800"}').values == {"a": "\ud800"}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"1", b"{", b"[" * 100_000, b'{"a":"\xff"}', b" " * (LONGEST_DOCUMENT + 1)], ids=str
)
def test_what_is_no_object_within_bounds_is_an_error(body: bytes) -> None:
    """An error of the server's, whatever it sent."""
    with pytest.raises(UpstreamProtocolError):
        read_document(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [(b'{"error":"busy"}', "500 busy"), (b"busy", "500 busy"), (b"[" * 100_000, "500 " + "[" * 296), (b"", "500")],
    ids=["json", "text", "nested", "empty"],
)
def test_a_refusal_is_its_status_and_its_text(body: bytes, words: str) -> None:
    """At most 300 characters of it, whatever the server sent."""
    assert words_of(500, body) == words


def test_a_list_has_at_most_so_many_rows() -> None:
    """More are refused, and the text says how many there were."""
    rows = [{"name": "a"}] * MOST_MODELS
    assert len(read_rows(read_document(json.dumps({"models": rows}).encode()), "models")) == MOST_MODELS
    with pytest.raises(UpstreamProtocolError, match="lists 2001 models"):
        read_rows(read_document(json.dumps({"models": [*rows, {}]}).encode()), "models")


@pytest.mark.parametrize(
    ("value", "told"),
    [("0.32.15", True), ("1.2.3-rc1+dev", True), ("", False), ("9" * 65, False), ("1\n", False), (1, False)],
)
def test_a_version_is_short_printable_text(value: object, *, told: bool) -> None:
    """Anything else is no version."""
    assert is_version(value) is told


@given(values)
def test_what_was_read_can_be_written_as_json(value: object) -> None:
    """No number of a server's makes an answer of ours invalid JSON."""
    document = read_document(json.dumps({"a": value}).encode())
    json.dumps(document.values, allow_nan=False)


@given(st.integers(0, 10**5000))
def test_integers_of_any_length_are_read_or_left_out(number: int) -> None:
    """None of them raises anything but an error of the server's."""
    digits = f"{number % 10**4000}"
    assert set(read_document(f'{{"a":{digits}}}'.encode()).values) <= {"a"}
