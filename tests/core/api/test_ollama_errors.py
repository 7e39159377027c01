"""Refusals in Ollama's own words."""

from __future__ import annotations

import pytest

from ollama_router_core.api.ollama_errors import model_incapable, model_not_found


@pytest.mark.parametrize(
    ("endpoint", "missing", "text"),
    [
        ("chat", {"completion"}, '"nomic-embed-text" does not support chat'),
        ("openai_chat", {"completion", "tools"}, '"nomic-embed-text" does not support chat'),
        ("generate", {"completion"}, '"nomic-embed-text" does not support generate'),
        ("chat", {"tools", "vision"}, "registry.ollama.ai/library/nomic-embed-text:latest does not support tools"),
        ("generate", {"insert"}, "registry.ollama.ai/library/nomic-embed-text:latest does not support insert"),
    ],
)
def test_what_a_model_cannot_do_is_told_as_ollama_tells_it(endpoint: str, missing: set[str], text: str) -> None:
    """A model that cannot answer at all is named as sent, one that lacks a skill by its full name."""
    error = model_incapable(endpoint, "nomic-embed-text", frozenset(missing))
    assert (error.message, error.missing, error.status_hint) == (text, frozenset(missing), 400)


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        ("chat", "model 'nobody' not found"),
        ("show", "model 'nobody:latest' not found"),
        ("embed", 'model "nobody" not found, try pulling it first'),
        ("copy", 'model "nobody" not found'),
    ],
)
def test_a_missing_model_has_ollama_s_different_texts(endpoint: str, text: str) -> None:
    """Clients match them."""
    assert model_not_found(endpoint, "nobody").message == text
