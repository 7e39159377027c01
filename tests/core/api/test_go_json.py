"""Go's words for broken JSON, as Go itself gave them."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_router_core.api.go_json import syntax_error, value_kind

SAID_BY_GO = [
    (b"{", "unexpected EOF"),
    (b'{"model": "x", "pro', "unexpected EOF"),
    (b"model=x", "invalid character 'm' looking for beginning of value"),
    (b'{"model": "x",}', "invalid character '}' looking for beginning of object key string"),
    (b'{"model": "x" "y"}', "invalid character '\"' after object key:value pair"),
    (b'{"model" "x"}', "invalid character '\"' after object key"),
    (b"[1 2]", "invalid character '2' after array element"),
    (b"[1,]", "invalid character ']' looking for beginning of value"),
    (b"{'a': 1}", r"invalid character '\'' looking for beginning of object key string"),
    (b'\xef\xbb\xbf{"model": "x"}', "invalid character '\u00ef' looking for beginning of value"),
    (b'{"model": NaN}', "invalid character 'N' looking for beginning of value"),
    (b'{"a": "line\nbreak"}', r"invalid character '\n' in string literal"),
    (b'{"a": "\\x"}', "invalid character 'x' in string escape code"),
    (b'{"a": "\\u12g4"}', r"invalid character 'g' in \u hexadecimal character escape"),
    (b'{"a": "\\u12', "unexpected EOF"),
    (b'{"a": tru}', "invalid character '}' in literal true (expecting 'e')"),
    (b'{"a": nul', "unexpected EOF"),
    (b'{"a": -x}', "invalid character 'x' in numeric literal"),
    (b'{"a": 01}', "invalid character '1' after object key:value pair"),
    (b'{"a": 1.}', "invalid character '}' after decimal point in numeric literal"),
    (b'{"a": 1e+}', "invalid character '}' in exponent of numeric literal"),
    (b'{"a": 1.5.2}', "invalid character '.' after object key:value pair"),
    (b'{"a": \\}', r"invalid character '\\' looking for beginning of value"),
    (b'{"a": \x00}', r"invalid character '\x00' looking for beginning of value"),
    (b'{"a": \x7f}', r"invalid character '\x7f' looking for beginning of value"),
    (b'{"a": \xc2\xa0}', "invalid character '\u00c2' looking for beginning of value"),
    (b'{"a": \x80}', r"invalid character '\u0080' looking for beginning of value"),
]
SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = SCALARS | st.lists(SCALARS, max_size=4) | st.dictionaries(st.text(), SCALARS, max_size=4)


@pytest.mark.parametrize(("body", "words"), SAID_BY_GO)
def test_the_first_fault_is_worded_as_go_words_it(body: bytes, words: str) -> None:
    """One for each place in which JSON can break."""
    assert syntax_error(body) == words


@pytest.mark.parametrize("body", [b"{} and more", b"5x", b'"a"b', b"[] []", b'{"a": "\xff"}', b"1.5.2"])
def test_what_go_does_not_mind_has_no_words(body: bytes) -> None:
    """It reads the first value and stops, and takes bytes that are no UTF-8."""
    assert syntax_error(body) is None


def test_a_fault_far_behind_is_left_to_others() -> None:
    """So that no body takes long to refuse."""
    assert syntax_error(b"[" + b"1," * 100_000) is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b" {}", "object"), (b"[", "array"), (b'"x"', "string"), (b"true", "bool"), (b"null", "null"), (b"-1", "number")],
)
def test_a_value_has_go_s_name(body: bytes, kind: str) -> None:
    """That of its kind."""
    assert value_kind(body) == kind


@given(st.lists(VALUES, max_size=4), st.sampled_from([None, 1]))
def test_json_has_no_fault(value: object, indent: int | None) -> None:
    """Whatever Python writes."""
    assert syntax_error(json.dumps(value, indent=indent).encode()) is None


@given(st.text(alphabet='{}[]:,"\\ntrue0.-e1u ').map(str.encode), st.integers(0, 5))
@example(b'{"a":1', 0)
def test_any_text_is_read_to_an_end(body: bytes, cut: int) -> None:
    """No text makes it fail; what Python reads as JSON has no fault."""
    found = syntax_error(body[cut:] or b"{")
    assert found is None or found.startswith(("invalid character ", "unexpected EOF"))
    try:
        json.loads(body)
    except ValueError:
        return
    assert syntax_error(body) is None
