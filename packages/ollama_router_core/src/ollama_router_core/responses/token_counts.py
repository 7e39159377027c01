"""Token counts of a response: the server's, or the router's estimate.

A stream without counts, or one that ends before its last count, is estimated at one token per piece. A non-streamed
response without counts is estimated at one token per four bytes; its prompt at the request's estimate.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from ollama_router_core.access.limits import BYTES_PER_TOKEN, USUAL_ANSWER
from ollama_router_core.api.endpoints import Endpoint
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.responses.usage import UsageReader

__all__ = ["NO_TOKENS", "TokenCounts", "count_tokens", "estimate_unseen"]


class TokenCounts(Struct, frozen=True, kw_only=True):
    """Tokens of one request, None if unknown; `estimated` if some were not counted."""

    prompt: int | None = None
    completion: int | None = None
    estimated: bool = False

    @property
    def total(self) -> int:
        """Tokens charged to the user's limits."""
        return (self.prompt or 0) + (self.completion or 0)


NO_TOKENS: Final = TokenCounts()


def count_tokens(reader: UsageReader, endpoint: Endpoint, route: RouteRequest) -> TokenCounts:
    """Count the tokens of a response as far as the reader has seen it."""
    usage, pieces = reader.usage, reader.uncounted
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if pieces:
        completion = (completion or 0) + pieces
    elif reader.size and not usage.counts and not usage.failed:
        pieces = reader.size // BYTES_PER_TOKEN
        completion = pieces if endpoint.writes_text else None
    if pieces and not prompt:
        prompt = route.prompt_tokens
    return TokenCounts(prompt=prompt, completion=completion, estimated=pieces > 0)


def estimate_unseen(endpoint: Endpoint, route: RouteRequest) -> TokenCounts:
    """Estimate the tokens of a request whose client left before the response.

    A stream that has not begun counts as none; the progress of a non-streamed response is unknown.
    """
    if not endpoint.counts_usage or route.stream:
        return NO_TOKENS
    answer = min(USUAL_ANSWER, route.max_tokens or USUAL_ANSWER) if endpoint.writes_text else None
    return TokenCounts(prompt=route.prompt_tokens, completion=answer, estimated=True)
