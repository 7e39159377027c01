"""A pattern means the same models whichever way it writes where they are from, and never more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.name_patterns import can_match, matches_pattern


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*", ["llama3", "team/x", "evil.example/team/x"], []),
        ("registry.ollama.ai/library/*", ["llama3", "library/llama3:8b"], ["team/x", "evil.example/team/x"]),
        ("library/*", ["llama3"], ["team/x", "evil.example/library/x"]),
        ("registry.ollama.ai/*", ["llama3", "team/x"], ["evil.example/team/x"]),
        ("Registry.Ollama.AI/team/*", ["team/x", "TEAM/y:1b"], ["x", "evil.example/team/x"]),
        ("https://hf.co/org/*", ["hf.co/org/model:q4"], ["org/model"]),
        ("secret?", ["secret1", "secret1:latest"], ["secret1:8b", "secret"]),
        ("secret?:*", ["secret1:8b"], ["secret:8b"]),
        ("llama3", ["llama3:latest", "library/LLAMA3"], ["llama3:8b", "llama31"]),
        ("qwen[23]*", ["qwen2:7b", "qwen3"], ["qwen1"]),
    ],
)
def test_what_a_pattern_matches(pattern: str, matching: list[str], other: list[str]) -> None:
    """The default place may be written or left out; a pattern within it does not reach other places."""
    assert [name for name in matching if not matches_pattern(canonical_name(name), pattern)] == []
    assert [name for name in other if matches_pattern(canonical_name(name), pattern)] == []


@pytest.mark.parametrize("pattern", ["registry.ollama.ai/library/team/x*", "[z-a]*", "x\n*", " x*", "x\u202e*"])
def test_a_pattern_that_no_name_can_match_is_told(pattern: str) -> None:
    """It would protect, or allow, nothing."""
    assert not can_match(pattern)


@given(st.from_regex(r"(?:[a-z0-9]{1,8}/)?[a-z0-9*?]{1,12}(?::[a-z0-9*?]{1,6})?", fullmatch=True))
def test_a_pattern_of_usual_characters_can_match(pattern: str) -> None:
    """Nothing an operator would write is taken for a mistake."""
    assert can_match(pattern)
