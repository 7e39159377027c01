"""The strict look into a JSON object: what passes, what is refused, and that edits touch nothing else."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.api.strict_json import parse_object
from ollama_router_core.errors import AmbiguousKey, BodyTooLarge, InvalidBody


def test_values_and_their_places_are_known() -> None:
    """A span is exactly the value's own text."""
    document = parse_object(b' { "model" : "m" , "n":[1, 2] } ')
    assert document.values == {"model": "m", "n": [1, 2]}
    start, end = document.spans["n"]
    assert document.text[start:end] == "[1, 2]"
    assert document.get("absent") is None


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"}", b"{}{}", b"{} x", b"[]", b"1", b"null", b'"x"', b'{"a"}', b'{"a":}', b'{"a":1,}', b"{,}",
     b"{a:1}", b"{'a':1}", b'{"a":1 "b":2}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":01}',
     b'{"a":1.}', b'{"a":+1}', b'{"a":tru}', b'{"a":"\n"}', b'{"a":"\\x"}', b'{"a":"\\ud8"}', b'{"a":1}\x00',
     b'\xef\xbb\xbf{"a":1}', b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":/**/1}', b"{1:2}", b'{"a":[1,]}',
     '{"a":\u0661}'.encode(), '\u00a0{"a":1}'.encode(), b'\x0b{"a":1}', b'{"a":"x', b'{"a":1', b'{"a":1,"b"',
     b"{" + b" " * 5000 + b"!"],
)  # fmt: skip
def test_what_is_not_one_json_object_in_utf8_is_refused(body: bytes) -> None:
    """The router and the server behind it must not disagree about what was said, so nothing is guessed."""
    with pytest.raises(InvalidBody):
        parse_object(body)


@pytest.mark.parametrize("body", [b'{"a":1,"a":1}', b'{"a":1,"b":2,"a":3}', b'{"a":1,"\\u0061":2}'])
def test_a_key_that_stands_twice_is_refused(body: bytes) -> None:
    """Go keeps the last, others the first: however it is spelled, a second one is an attack or a mistake."""
    with pytest.raises(AmbiguousKey, match="twice"):
        parse_object(body)


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' + b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
    ids=["lists", "lists in an object", "objects", "balanced"],
)
def test_deep_nesting_is_a_refusal_and_not_a_crash(body: bytes) -> None:
    """No body may end a request in a RecursionError."""
    with pytest.raises(InvalidBody):
        parse_object(body)


@pytest.mark.parametrize("tail", [b"", b",}", b',"b":' + b"[" * 100_000, b',"n":1', b',"b":NaN'])
def test_a_bad_body_with_an_endless_integer_is_still_only_a_bad_body(tail: bytes) -> None:
    """Python refuses to convert long integers; the reading that gets round this is as strict as the first."""
    with pytest.raises((InvalidBody, AmbiguousKey)):
        parse_object(b'{"n":' + b"9" * 5000 + tail)


@pytest.mark.parametrize(
    "value", ['"\\ud800"', "1e400", "-1e400", "9" * 30, "9" * 5000, "-" + "9" * 5000, "1.10", "-0"]
)
def test_values_that_python_cannot_hold_stay_in_the_text(value: str) -> None:
    """What a real Ollama takes is not lost on the way: the text that is sent has every digit the client wrote."""
    document = parse_object(b'{"model":"a","x":%s}' % value.encode())
    assert document.replace({"model": '"b"'}) == f'{{"model":"b","x":{value}}}'


def test_replacing_touches_only_the_value() -> None:
    """Spaces, order, escapes and other numbers stay; a new key goes to the end."""
    document = parse_object(b'\n{ "a" : 1.0 ,\t"m\\u006fdel": "x" , "z":[ ] }\r\n')
    assert document.replace({"model": '"y"'}) == '\n{ "a" : 1.0 ,\t"m\\u006fdel": "y" , "z":[ ] }\r\n'
    assert document.replace({"new": "{}"}) == '\n{ "a" : 1.0 ,\t"m\\u006fdel": "x" , "z":[ ] ,"new":{}}\r\n'
    assert document.replace({}) == document.text


def test_a_key_is_added_to_an_empty_object_without_a_comma() -> None:
    """The smallest object is no special case for who reads the result."""
    assert json.loads(parse_object(b" { } ").replace({"a": "1", "b": "2"})) == {"a": 1, "b": 2}


def test_a_child_is_read_as_strictly_as_its_parent() -> None:
    """Duplicates inside `options` count as much as those beside it."""
    document = parse_object(b'{"options":{"num_ctx":1,"num_ctx":2},"fine":{"a":[{"b":1}]},"text":"x"}')
    with pytest.raises(AmbiguousKey):
        document.child("options")
    assert document.child("fine") == {"a": [{"b": 1}]}
    with pytest.raises(InvalidBody):
        document.child("text")


def test_an_error_says_where() -> None:
    """The text of a refusal lets a person find the place."""
    with pytest.raises(InvalidBody, match="line 2 column 1"):
        parse_object(b'{"a":1,\n}')
    with pytest.raises(InvalidBody, match="byte 6"):
        parse_object(b'{"a":"\xff"}')


def test_a_body_of_very_many_values_is_too_large() -> None:
    """A decoder would hold up every thread while it makes a million objects, however few bytes they take."""
    members = ",".join(f'"{number}":1' for number in range(150_000))
    for body in (f"{{{members}}}", f'{{"options":{{{members}}}}}', f'{{"a":[{"[]," * 400_000}[]]}}'):
        with pytest.raises(BodyTooLarge, match="more than"):
            parse_object(body.encode())
