"""Laws of the strict JSON reading."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ollama_router_core.api.strict_json import _parse_text, _read_quickly, parse_object
from ollama_router_core.errors import AmbiguousKey, InvalidBody
from support.json_texts import keys, objects, spelled, values


def loads(text: str) -> Any:
    """What Python makes of a text, endless integers as any number."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 4000 else float(digits))


@given(spelled())
def test_it_agrees_with_json_loads_on_objects_without_duplicates(text: str) -> None:
    """Strictness adds refusals, it never changes a value."""
    assert parse_object(text.encode()).values == loads(text)


@given(spelled(), st.dictionaries(keys, values, max_size=4))
def test_the_replaced_text_parses_to_the_replaced_values(text: str, changes: dict[str, Any]) -> None:
    """What was meant is what a server reads: the new values, and every other one as it was."""
    document = parse_object(text.encode())
    edited = document.replace({key: json.dumps(value) for key, value in changes.items()})
    assert parse_object(edited.encode()).values == {**document.values, **loads(json.dumps(changes))}


@given(spelled(), st.dictionaries(keys, values, max_size=4))
def test_replacing_leaves_every_other_character_alone(text: str, changes: dict[str, Any]) -> None:
    """Cutting the edited values out of both texts leaves the same rest, apart from appended keys before the end."""
    document = parse_object(text.encode())
    known = {key: json.dumps(value) for key, value in changes.items() if key in document.spans}
    edited = parse_object(document.replace(known).encode())
    assert _without(document.text, [document.spans[key] for key in known]) == _without(
        edited.text, [edited.spans[key] for key in known]
    )


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    for start, end in sorted(spans, reverse=True):
        text = text[:start] + "\0" + text[end:]
    return text


@given(objects.filter(bool), st.data())
def test_a_repeated_key_is_always_refused(members: dict[str, Any], data: st.DataObject) -> None:
    """Wherever it stands and whatever its value, even the same one."""
    key = data.draw(st.sampled_from(sorted(members)))
    rows = [(name, json.dumps(value)) for name, value in members.items()]
    rows.insert(data.draw(st.integers(0, len(rows))), (key, json.dumps(data.draw(values))))
    text = "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in rows) + "}"
    try:
        parse_object(text.encode())
    except AmbiguousKey:
        return
    raise AssertionError(text)


@given(st.binary(max_size=60) | spelled().map(str.encode), st.data())
@example(b'{"a":' + b"9" * 5000 + b"}", None)
def test_any_bytes_raise_nothing_but_the_two_refusals(body: bytes, data: st.DataObject | None) -> None:
    """Also a good body with one byte changed or its end cut off."""
    if data is not None and body:
        place = data.draw(st.integers(0, len(body) - 1))
        rest = body[place + 1 :] if data.draw(st.booleans()) else b""
        body = body[:place] + data.draw(st.binary(max_size=2)) + rest
    with contextlib.suppress(InvalidBody, AmbiguousKey):
        parse_object(body)


@given(st.binary(max_size=60) | spelled().map(str.encode), st.data())
def test_what_is_read_quickly_is_what_the_walk_reads(body: bytes, data: st.DataObject) -> None:
    """Whoever spares the walk accepts nothing that it refuses, and every value is the one that it finds."""
    if body:
        place = data.draw(st.integers(0, len(body) - 1))
        body = (
            body[:place]
            + data.draw(st.sampled_from([b"", body[place : place + 1], b"\xff", b"\\"]))
            + body[place + 1 :]
        )
    pieces = _read_quickly(body)
    if pieces is None:
        return
    walked = _parse_text(body.decode())
    document = parse_object(body)
    assert {key: document.get(key) for key in pieces} == walked.values
    for key in pieces:
        first = document.first_of(key, 2)
        listed = walked.values[key]
        assert (None if first is None else list(first)) == (listed[:2] if isinstance(listed, list) else None)
    assert document.values == walked.values
    assert {key: document.text[start:end] for key, (start, end) in document.spans.items()} == {
        key: bytes(piece).decode() for key, piece in pieces.items()
    }
