"""The log record of a proxied request.

A record never contains prompts, responses, credentials, header values or query strings.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

__all__ = ["RequestRecord"]


class RequestRecord(Struct, frozen=True, kw_only=True, gc=False):
    """The record of one request.

    `started_at` is seconds since 1970 (UTC). Times are milliseconds: `queue_ms` until a server was chosen, `ttft_ms`
    until the first byte was sent to the client, `total_ms` until the last. `connect_ms` is from the choice of a server
    to the connection to the one that answered, including earlier attempts. `load_ms`, `prefill_ms` and `decode_ms` are
    the server's. `status` is the client's, or 499 if the client disconnected first. `path` is the endpoint table's
    template, never the raw target. `speaker` is the user whose token sent the request on behalf of `user`, None if
    that is the same.

    Token counts are the server's, None if it reported none. With `tokens_estimated` they are the router's estimate: the
    server did not count, or the response broke off. `cached_tokens` and `cache_write_tokens` are the parts of
    `prompt_tokens` read from or written to a cache, `reasoning_tokens` is a part of `completion_tokens`.

    `gpu_ms` is the server's compute time, see `records.costs`; None for external hosts and for requests never sent.
    `cost_micros` is the price at a host, in millionths of the config's currency.

    `decision` is a compact JSON text of the routing decision and of later events, for requests that were not sent
    directly to a server with the model in memory; see `routing.kept_decisions` and `exchange.course`.
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
        """Return the fields by name, in order."""
        return asdict(self)
