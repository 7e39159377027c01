"""How often somebody may try to sign in."""

from __future__ import annotations

import pytest

from ollama_router_core.access.sign_in_limits import SignInLimits
from ollama_router_core.errors import LimitExceeded


def test_one_address_has_its_own_count() -> None:
    """The eleventh attempt of a minute is not heard; another address still is, and so is the next minute's."""
    limits = SignInLimits()
    for _ in range(10):
        limits.attempt("a", 0.0)
    with pytest.raises(LimitExceeded) as refused:
        limits.attempt("a", 20.0)
    assert refused.value.retry_after == 40.0
    limits.attempt("b", 20.0)
    limits.attempt("a", 60.0)


def test_all_addresses_together_have_one_too() -> None:
    """Many addresses cannot guess together."""
    limits = SignInLimits(of_all=60)
    for number in range(60):
        limits.attempt(str(number), 0.0)
    with pytest.raises(LimitExceeded):
        limits.attempt("new", 0.0)
