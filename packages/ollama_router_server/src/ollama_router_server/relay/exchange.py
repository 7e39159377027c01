"""What is known about one exchange while it runs, and the record it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ollama_router_core.access.limits import Standing, limit_headers
from ollama_router_core.api.endpoints import Endpoint, Family
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.errors import RouterError
from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.responses.usage import Usage, UsageReader
from ollama_router_core.routing.decision import Decision
from ollama_router_server.accounts.usage_limits import Ticket
from ollama_router_server.relay.client import Client
from ollama_router_server.storage.users import User
from ollama_router_server.system import Clock

if TYPE_CHECKING:
    from ollama_router_server.telemetry.traces import RequestTrace

__all__ = ["Exchange", "Headers"]

Headers = Sequence[tuple[bytes, bytes]]


class Exchange:
    """One request on its way; `started` and the other moments are seconds of the monotonic clock.

    `path` is the request's as sent, without query: for the endpoint table only, never for logs; `query` likewise.
    `headers` have names in lower case; `address` is the client's, None if the server does not know it.
    `asked` is the model's name as the client wrote it when policy changed it, `fallback` the model that stands in,
    `changes` what policy did to the request. `conversation` tells the one that it is a turn of, where the strategy
    wants to know, and `prefix` which server held it. What is not given is set when it is known.
    """

    query: bytes = b""
    address: str | None = None
    user: User | None = None
    endpoint: Endpoint | None = None
    route: RouteRequest | None = None
    decision: Decision | None = None
    decided: float | None = None
    conversation: int | None = None
    prefix: HeldPrefix | None = None
    queue_position: int | None = None
    expected_wait_ms: float | None = None
    asked: str | None = None
    fallback: str | None = None
    changes: tuple[str, ...] = ()
    first_byte: float | None = None
    server: str | None = None
    attempts: int = 0
    status: int = 0
    usage: UsageReader | None = None
    error: RouterError | None = None
    standing: Standing | None = None
    ticket: Ticket | None = None
    trace: RequestTrace | None = None

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - its name everywhere
        method: str,
        path: str,
        headers: Headers,
        client: Client,
        started: float,
        started_at: float,
        family: Family,
    ) -> None:
        self.id = id
        self.method = method
        self.path = path
        self.headers = headers
        self.client = client
        self.started = started
        self.started_at = started_at
        self.family = family

    def header(self, name: bytes) -> str | None:
        """A request field's value, several joined by commas; None when it is absent."""
        values = [value.decode("latin-1") for field, value in self.headers if field == name]
        return ",".join(values) if values else None

    @property
    def reason(self) -> str | None:
        """Why the server got the request, and what policy changed about it; None when there was no decision."""
        parts = [*self.changes, *([self.decision.reason] if self.decision else [])]
        return "; ".join(parts) or None

    def router_headers(self) -> list[tuple[bytes, bytes]]:
        """The fields that say what the router did."""
        headers = [(b"x-router-request-id", self.id.encode())]
        if self.attempts:
            headers.append((b"x-router-attempts", str(self.attempts).encode()))
        if self.fallback is not None:
            headers.append((b"x-router-fallback", self.fallback.encode("ascii", "replace")))
        if self.standing is not None:
            headers += [(name.encode(), value.encode()) for name, value in limit_headers(self.standing)]
        return headers

    def record(self, clock: Clock) -> RequestRecord:
        """The row for the log, at the moment the exchange ends."""
        usage = self.usage.usage if self.usage else Usage()
        route = self.route or RouteRequest()
        return RequestRecord(
            id=self.id,
            started_at=self.started_at,
            user=self.user.name if self.user else None,
            client=self.address,
            method=self.method,
            path=self.endpoint.path if self.endpoint else "(unknown)",
            model_asked=self.asked or route.model_text,
            model_served=route.model if self.server else None,
            server=self.server,
            status=self.status,
            attempts=self.attempts,
            streamed=route.stream,
            queue_ms=self._since_start(self.decided),
            queue_position=self.queue_position,
            expected_wait_ms=self.expected_wait_ms,
            ttft_ms=self._since_start(self.first_byte),
            total_ms=(clock.monotonic() - self.started) * 1000,
            load_ms=None if usage.load_duration is None else usage.load_duration / 1e6,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            num_ctx=route.num_ctx,
            bytes_in=self.client.bytes_in,
            bytes_out=self.client.bytes_out,
            reason=self.reason,
            error_code=self.error.code if self.error else None,
            error=self.error.message if self.error else None,
        )

    def _since_start(self, moment: float | None) -> float | None:
        return None if moment is None else (moment - self.started) * 1000
