"""Patterns over the names of hosted models, in which a version is compared as a version."""

from __future__ import annotations

import pytest

from ollama_router_core.api.version_patterns import is_version_pattern, matches_any


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("gpt-5*", "gpt-5-mini", "gpt-4o"),
        ("GPT-4O", "gpt-4o", "gpt-4o-mini"),
        ("gpt-{5..}*", "gpt-5", "gpt-4o"),
        ("gpt-{5..}*", "gpt-6-sol", "gpt-oss-120b"),
        ("gpt-{5..20}*", "gpt-5-2025-08-07", "gpt-35-turbo"),
        ("gpt-{5.4..5.6}*", "gpt-5.6-terra", "gpt-5.7"),
        ("gpt-{5.4..5.6}*", "gpt-5.4-2026-03-05", "gpt-5"),
        ("gpt-{5..5.0}*", "gpt-5-mini", "gpt-5.1"),
        ("gpt-{..4}*", "gpt-4.1", "gpt-5"),
        ("claude-opus-{4.7..}*", "claude-opus-4-7", "claude-opus-4-20250514"),
        ("claude-opus-{4.7..}*", "claude-opus-5", "claude-opus-4-6-20260101"),
        ("claude-[a-z]*-{4.1..}*", "claude-opus-4-1-20250805", "claude-3-5-sonnet-20241022"),
        ("claude-[a-z]*-{4.1..}*", "claude-haiku-4-5", "claude-sonnet-4-20250514"),
        ("gpt-{5..}*", "openai/gpt-5.2", "openai/gpt-4.1"),
        ("openai/gpt-{5..}*", "openai/gpt-5.2", "other/gpt-5.2"),
        ("*openai.gpt-{5..}*", "us.openai.gpt-5.6-terra-v1:0", "openai.gpt-oss-20b-1:0"),
        ("o{1..9}*", "o3-mini", "ollama"),
    ],
)
def test_what_a_pattern_matches(pattern: str, matching: str, other: str) -> None:
    """Eight digits are a date, a missing minor version is 0, and a bound counts as far as it goes."""
    assert matches_any(matching, [pattern])
    assert not matches_any(other, [pattern])


@pytest.mark.parametrize("text", ["", "gpt-{5}", "gpt-{a..b}", "gpt-{5..", "*a*b*c*d*e*", "x" * 101])
def test_what_is_no_pattern(text: str) -> None:
    """Braces hold a range, and a pattern is short."""
    assert not is_version_pattern(text)
