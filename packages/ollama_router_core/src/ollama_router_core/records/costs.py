"""The cost of a request: a server's compute time, or an external host's price."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["NO_COSTS", "Costs", "Price", "computed_ms", "cost_micros"]


class Price(Struct, frozen=True):
    """The prices of a million prompt tokens and output tokens, in the config's currency."""

    input: float = 0.0
    output: float = 0.0


class Costs(Struct, frozen=True, kw_only=True):
    """A server's compute time in milliseconds, and a host's price in millionths of the currency."""

    gpu_ms: int | None = None
    cost_micros: int | None = None


NO_COSTS = Costs()


def computed_ms(held: float, load: float | None, prefill: float | None, decode: float | None) -> int:
    """Return the milliseconds that a server's slot computed: loading, prefill and decoding, as reported.

    If the server reports neither prefill nor decoding, as when the client leaves, this is the upper bound: the whole
    time it had the request (`held`). Requests computed concurrently each count in full.
    """
    if prefill is None and decode is None:
        return round(held)
    return round(min(held, (load or 0.0) + (prefill or 0.0) + (decode or 0.0)))


def cost_micros(price: Price, prompt_tokens: int | None, completion_tokens: int | None) -> int | None:
    """Return the price in millionths of the currency, without discounts for cached tokens; None without counts."""
    if prompt_tokens is None and completion_tokens is None:
        return None
    return round(price.input * (prompt_tokens or 0) + price.output * (completion_tokens or 0))
