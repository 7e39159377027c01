"""The one row that every proxied request leaves behind.

A record never holds prompts, answers, tokens, header values or query strings.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

__all__ = ["RequestRecord"]


class RequestRecord(Struct, frozen=True, kw_only=True, gc=False):
    """What happened to one request.

    `started_at` is seconds since 1970 (UTC). Times are milliseconds: `queue_ms` until a server was chosen, `ttft_ms`
    until the first byte went to the client, `total_ms` until the last. `connect_ms` is from the choice of a server
    until there was a connection to the one that answered: earlier attempts are in it. `load_ms`, `prefill_ms` and
    `decode_ms` are as the server reported them. `status` is what the client got, or 499 when it left first. `path` is
    the endpoint table's template, never the raw target. `speaker` is the user whose token asked for the `user`, None
    where that asked for itself.

    Token counts are the server's own, None where it did not say. With `tokens_estimated` they are the router's: the
    server counted nothing, or not all of an answer that broke off. `cached_tokens` and `cache_write_tokens` are the
    parts of `prompt_tokens` that came out of a cache or went into one, `reasoning_tokens` a part of
    `completion_tokens`.

    `gpu_ms` is how long a server computed it, as `records.costs` has it; None for external hosts and for what was
    never sent. `cost_micros` is what a host's prices come to, in millionths of the config's currency.

    `decision` is a compact JSON text of the decision as it was then, for requests that did not simply go to a server
    with the model in memory, with what else happened to it; see `routing.kept_decisions` and `exchange.course`.
    """

    id: str
    started_at: float
    user: str | None
    client: str | None
    method: str
    path: str
    speaker: str | None = None
    model_asked: str | None = None
    model_served: str | None = None
    server: str | None = None
    status: int
    attempts: int = 0
    streamed: bool = False
    queue_ms: float | None = None
    queue_position: int | None = None
    expected_wait_ms: float | None = None
    connect_ms: float | None = None
    ttft_ms: float | None = None
    total_ms: float
    load_ms: float | None = None
    prefill_ms: float | None = None
    decode_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    tokens_estimated: bool = False
    gpu_ms: int | None = None
    cost_micros: int | None = None
    num_ctx: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    reason: str | None = None
    error_code: str | None = None
    error: str | None = None
    decision: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name, in their order."""
        return asdict(self)
