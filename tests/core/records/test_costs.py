"""What a request cost: time of a server, or money of a host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.costs import Price, computed_ms, cost_micros

MS = st.none() | st.floats(0, 1e7)


def test_a_server_s_own_times_count() -> None:
    """Not how long the client took to read the answer."""
    assert computed_ms(9_000.0, 1_000.0, 500.0, 2_000.4) == 3_500


def test_a_server_that_told_nothing_computed_while_it_had_the_request() -> None:
    """As one whose client left; a load alone, as embeddings tell it, is not all."""
    assert computed_ms(9_000.4, None, None, None) == 9_000
    assert computed_ms(9_000.4, 10.0, None, None) == 9_000


@given(st.floats(0, 1e7), MS, MS, MS)
def test_nothing_takes_longer_than_it_was_there(
    held: float, load: float | None, prefill: float | None, decode: float | None
) -> None:
    """Whatever a server tells."""
    assert 0 <= computed_ms(held, load, prefill, decode) <= round(held)


@pytest.mark.parametrize(
    ("prompt", "completion", "micros"),
    [(1_000_000, 0, 2_500_000), (1_000, 100, 3_500), (None, 3, 30), (None, None, None)],
)
def test_tokens_cost_what_the_config_says(prompt: int | None, completion: int | None, micros: int | None) -> None:
    """In millionths of the currency; without tokens nothing is known."""
    assert cost_micros(Price(2.5, 10.0), prompt, completion) == micros
