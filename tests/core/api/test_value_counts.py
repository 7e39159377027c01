"""What a decoder would take long over is told from what is only long."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api import value_counts
from ollama_router_core.api.value_counts import too_many_values
from support.json_texts import values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{" + ",".join(f'"{number}":1' for number in range(150_000)) + "}", "strings"),
        ('{"options":{' + ",".join(f'"{number}":1' for number in range(150_000)) + "}}", "strings"),
        ('{"a":[' + "[]," * 400_000 + "[]]}", "values"),
        ('{"a":[' + "1," * 400_000 + "1]}", "values"),
        ('{"a":' + "[" * 400_000, "values"),
    ],
)
def test_too_many(text: str, words: str) -> None:
    """Wherever they are."""
    assert words in (too_many_values(text.encode()) or "")


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": '[{"a", "b\\\\"}], ' * 100_000, "suffix": "\\" * 400_001},
        {"prompt": '\\"' * 400_000},
        {"context": [7] * 262_144},
        {"input": ["a text to embed, with commas"] * 90_000},
    ],
    ids=["prose", "quotes", "context", "batch"],
)
def test_not_too_many(body: dict[str, object]) -> None:
    """What stands within strings does not count, escaped quotes and backslashes at their ends included."""
    assert too_many_values(json.dumps(body).encode()) is None


@given(values, st.integers(1, 9))
def test_slices_change_nothing(value: object, size: int) -> None:
    """Law: what stands outside of strings is the same however the text is cut."""
    text = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_counts, "_SLICE", size)
        sliced = b"".join(value_counts.outside_strings(text))
    assert sliced == b"".join(value_counts.outside_strings(text))
    assert b'"' not in sliced
