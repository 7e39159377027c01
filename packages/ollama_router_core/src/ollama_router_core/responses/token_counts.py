"""How many tokens an answer took: the server's counts, and the router's own where a server has none.

A stream whose tokens nobody counts, or that ends before its last count, took about one token for each of its pieces.
An answer in one piece without counts took a token for every four bytes; a prompt took what was estimated of it.
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
    """Tokens of one answer, None where nothing is known; `estimated` says that some of them were not counted."""

    prompt: int | None = None
    completion: int | None = None
    estimated: bool = False

    @property
    def total(self) -> int:
        """What a user's limits are charged."""
        return (self.prompt or 0) + (self.completion or 0)


NO_TOKENS: Final = TokenCounts()


def count_tokens(reader: UsageReader, endpoint: Endpoint, route: RouteRequest) -> TokenCounts:
    """Count what the answer to a request took, as far as the reader has seen it."""
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
    """Estimate what a server wrote for a client that did not wait for it.

    Of a stream that has not begun that is nothing; of an answer in one piece nobody knows how far it was.
    """
    if not endpoint.counts_usage or route.stream:
        return NO_TOKENS
    answer = min(USUAL_ANSWER, route.max_tokens or USUAL_ANSWER) if endpoint.writes_text else None
    return TokenCounts(prompt=route.prompt_tokens, completion=answer, estimated=True)
