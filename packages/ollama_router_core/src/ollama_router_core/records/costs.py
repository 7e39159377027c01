"""What a request cost: time of a server that computed it, or money of an external host."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["NO_COSTS", "Costs", "Price", "computed_ms", "cost_micros"]


class Price(Struct, frozen=True):
    """What a million tokens cost, in and out, in whatever currency the config names."""

    input: float = 0.0
    output: float = 0.0


class Costs(Struct, frozen=True, kw_only=True):
    """Milliseconds that a server computed, and millionths of the currency that a host's prices come to."""

    gpu_ms: int | None = None
    cost_micros: int | None = None


NO_COSTS = Costs()


def computed_ms(held: float, load: float | None, prefill: float | None, decode: float | None) -> int:
    """Milliseconds that a slot of a server computed for a request: loading, reading and writing, as it told.

    A server that told nothing of reading and writing, as one whose client left, computed as long as it had the
    request (`held`), which is the most that can be true. Two requests that a server computes at once count both.
    """
    if prefill is None and decode is None:
        return round(held)
    return round(min(held, (load or 0.0) + (prefill or 0.0) + (decode or 0.0)))


def cost_micros(price: Price, prompt_tokens: int | None, completion_tokens: int | None) -> int | None:
    """Millionths of the currency, without the discount that a host may give for a cached prompt; None for no tokens."""
    if prompt_tokens is None and completion_tokens is None:
        return None
    return round(price.input * (prompt_tokens or 0) + price.output * (completion_tokens or 0))
