"""One exchange with one server that was chosen by name, not by a decision.

Such requests take no slot of a server: pulling a model for an hour must not look like load.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import RouterError, UpstreamProtocolError
from ollama_router_core.outbound.header_fields import request_fields
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.redaction import redacted
from ollama_router_server.upstream.interface import Headers, Timeouts, Upstream, UpstreamRequest, UpstreamResponse
from ollama_router_server.upstream.targets import Target

__all__ = ["Dispatch", "OpenAnswer", "Outgoing", "Reply"]

_PATIENCE = 3600.0
"""Seconds of silence while a server verifies, converts or quantises what it has read."""
_LONGEST_REPLY = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What to send; `target` is built from the endpoint table. See `UpstreamRequest` for bodies.

    `patient` orders may take an hour of silence.
    """

    method: str
    target: str
    body: bytes | AsyncIterator[bytes] = b""
    body_length: int | None = None
    patient: bool = False


@dataclass(slots=True)
class OpenAnswer:
    """An answer whose head has arrived."""

    target: Target
    response: UpstreamResponse

    def release(self) -> None:
        """Give the connection back, or cut it if the body was not read to its end."""
        self.response.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole short answer."""

    status: int
    headers: Headers
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return 200 <= self.status < 300


class Dispatch:
    """Sends to servers by name."""

    def __init__(self, config: Config, targets: Mapping[str, Target], upstream: Upstream) -> None:
        self._targets = targets
        self._upstream = upstream
        self._patient = Timeouts(connect=config.connect_timeout, first_byte=_PATIENCE, idle=_PATIENCE)

    async def open(self, exchange: Exchange, server: str, outgoing: Outgoing) -> OpenAnswer:
        """Send, and wait for the head of the answer.

        Raises:
            UpstreamError: no acceptable answer; the text names the server.
            Exception: what the body's iterator raised.
        """
        target = self._targets[server]
        headers = request_fields(exchange.headers, target.place, exchange.id)
        response = await self._upstream.send(
            UpstreamRequest(
                origin=target.origin,
                method=outgoing.method,
                target=outgoing.target,
                headers=headers,
                body=outgoing.body,
                body_length=outgoing.body_length,
                timeouts=self._patient if outgoing.patient else target.timeouts,
            )
        )
        if 300 <= response.status < 400:
            response.close()
            raise UpstreamProtocolError(f"{server} answered with a redirect, which is not followed")
        return OpenAnswer(target, redacted(response, target.place))

    async def ask(self, exchange: Exchange, server: str, outgoing: Outgoing) -> Reply:
        """Send, and read the whole answer, which has to be short.

        Raises:
            UpstreamError: as `open`, or the answer broke off or never ends.
        """
        answer = await self.open(exchange, server, outgoing)
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := await answer.response.read():
                size += len(piece)
                if size > _LONGEST_REPLY:
                    raise UpstreamProtocolError(f"{server} answered with more than {_LONGEST_REPLY} bytes")
                pieces.append(piece)
        finally:
            answer.release()
        return Reply(status=answer.response.status, headers=answer.response.headers, body=b"".join(pieces))

    async def ask_all(
        self, exchange: Exchange, servers: Iterable[str], outgoing: Outgoing
    ) -> dict[str, Reply | RouterError]:
        """Ask several servers at once; an error stands in the place of its server's reply."""
        names = tuple(servers)
        replies = await asyncio.gather(*(self._try(exchange, name, outgoing) for name in names))
        return dict(zip(names, replies, strict=True))

    async def _try(self, exchange: Exchange, server: str, outgoing: Outgoing) -> Reply | RouterError:
        try:
            return await self.ask(exchange, server, outgoing)
        except RouterError as error:
            return error
