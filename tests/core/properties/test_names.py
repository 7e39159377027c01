"""Laws of model names."""

from __future__ import annotations

import string

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from core.properties.strategies import model_names
from ollama_router_core.api.model_names import canonical_name, parse_model_name
from ollama_router_core.errors import InvalidModelName

any_text = st.one_of(st.text(), st.text("aAkK\u212a:/-.cloudCLOUDlocal", max_size=24), model_names())


@given(model_names())
def test_parsing_is_idempotent(text: str):
    """Parsing the short form gives the same name; only `:local`, the client's own wish, is not in it."""
    name = parse_model_name(text)
    again = parse_model_name(name.short)
    assert again.short == name.short
    assert again == replace(name, source=None if name.source == "local" else name.source)


@given(any_text)
def test_canonical_names_are_fixed_points(text: str):
    """The key of a key is the key, for Ollama's names and foreign ones."""
    assert canonical_name(canonical_name(text)) == canonical_name(text)


@given(any_text, st.randoms(use_true_random=False))
def test_case_makes_no_difference(text: str, random):
    """Any change of case of ASCII letters keeps the key."""
    changed = "".join(random.choice([char, char.swapcase()]) if char in string.ascii_letters else char for char in text)
    assert canonical_name(changed) == canonical_name(text)


@given(model_names(), model_names())
def test_names_are_equal_as_ollama_compares_them(left: str, right: str):
    """Keys are equal exactly when host, namespace, model and tag are, part by part, without regard to case."""
    parts = [
        (name.host.lower(), name.namespace.lower(), name.model.lower(), name.tag.lower())
        for name in (parse_model_name(left), parse_model_name(right))
    ]
    assert (canonical_name(left) == canonical_name(right)) == (parts[0] == parts[1])


@given(model_names())
def test_written_out_defaults_make_no_difference(text: str):
    """`registry.ollama.ai/library/NAME` is `NAME`."""
    assume("/" not in text)
    assert canonical_name(f"registry.ollama.ai/library/{text}") == canonical_name(text)
    assert canonical_name(f"Library/{text}") == canonical_name(text)


@given(any_text, model_names())
def test_what_is_no_name_equals_no_name(text: str, name: str):
    """A foreign id and an Ollama name never share a key: a permission for one is none for the other."""
    try:
        parse_model_name(text)
    except InvalidModelName:
        assert canonical_name(text) != canonical_name(name)


@given(any_text)
def test_no_text_raises_anything_else(text: str):
    """Parsing answers or says `invalid model name`."""
    try:
        name = parse_model_name(text)
    except InvalidModelName:
        return
    assert name.short.isascii()
