"""Settings for clients: limits, queueing, TLS and origins."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ollama_router_core.config.sections import Section
from ollama_router_core.config.value_types import Entries, OriginText, Seconds, SizeText

__all__ = ["Cors", "Limits", "Queue", "Tls"]


class Cors(Section):
    """Web pages that may use the router from a browser."""

    origins: Entries[OriginText] = Field(
        default=(),
        description="Origins of web pages that may use the router, such as `https://chat.example.org`, with one * for"
        " any part; `*` alone is every page, which then still needs a token. Pages of this machine, of the router"
        " itself, and the apps that Ollama lets in may anyway.",
    )


class Limits(Section):
    """Bounds on what clients may send and hold open."""

    max_body: SizeText = Field(default="32MB", description="Largest JSON body; larger ones are rejected with 413.")
    max_in_flight: Annotated[int, Field(ge=1)] = Field(
        default=2048, description="Proxied requests in flight, per worker; further ones are rejected with 503."
    )
    max_connections: Annotated[int, Field(ge=1)] = Field(
        default=16384,
        description="Open connections of clients, per worker, and never more than half of the files that the process"
        " may open; a further one closes the connection that has been idle longest.",
    )
    max_connections_per_address: Annotated[int, Field(ge=1)] = Field(
        default=1024,
        description="Open connections of one address (IPv6: one /64), per worker; `trusted_proxies` are exempt.",
    )
    max_head: SizeText = Field(
        default="32KB", description="Largest request head: the request line and all header fields."
    )
    max_fields: Annotated[int, Field(ge=1)] = Field(
        default=100, description="Maximum number of header fields in a request."
    )
    max_target: SizeText = Field(default="8KB", description="Longest request target (path and query).")
    head_timeout: Seconds = Field(default=10.0, description="Seconds within which a request's head must arrive.")
    body_timeout: Seconds = Field(
        default=30.0, description="Seconds that a client may stay silent while it sends a body."
    )
    write_timeout: Seconds = Field(
        default=60.0,
        description="Seconds after which the router disconnects a client that reads less than 512 bytes a second"
        " of a pending answer.",
    )
    shutdown_grace: Seconds = Field(
        default=600.0,
        description="Seconds that open streams have to finish after SIGTERM; then the router sends an error event"
        " of their dialect and closes them.",
    )
    lame_duck: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Seconds after SIGTERM during which the router still accepts requests, while `/readyz` answers"
        " 503 and each answer closes its connection: the time that a load balancer needs to notice.",
    )


class Tls(Section):
    """TLS served by the router itself."""

    certificate: str | None = Field(
        default=None, description="PEM file with the certificate and its chain; null serves plain HTTP."
    )
    key: str | None = Field(
        default=None, description="PEM file with the private key, unencrypted; null reads it from `certificate`."
    )


class Queue(Section):
    """The queue of requests that no server can take yet."""

    max_waiting: Annotated[int, Field(ge=0)] = Field(
        default=512, description="Requests that may wait at once; further ones are rejected with 503 and Retry-After."
    )
    max_waiting_per_model: Annotated[int, Field(ge=0)] = Field(
        default=256, description="Requests that may wait for one model, so that other models keep room in the queue."
    )
    max_wait: Seconds = Field(
        default=600.0,
        description="Seconds that a request may wait before it is rejected with 503; it is rejected at once if"
        " its expected wait is longer.",
    )
    max_waiting_per_user: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Waiting requests per user; null sets no limit per user."
    )
    max_preemptions: Annotated[int, Field(ge=0, le=10)] = Field(
        default=0,
        description="How many times a request of `batch` priority whose answer has not begun may be preempted: taken"
        " off its server and put back into the queue, so that an interactive request gets its slot.",
    )
