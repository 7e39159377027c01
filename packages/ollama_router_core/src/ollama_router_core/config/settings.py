"""Every setting of the router, typed, with its default and its meaning.

The keys of the Rails application this project replaces keep their names, meanings and places. Sizes in `*_gb`
are GiB (1024^3 bytes), as there. Durations are seconds unless the name says `_ms`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ollama_router_core.config.model_settings import MemoryPattern, ModelRule, ModelSettings
from ollama_router_core.config.places import ExternalHost, HostedModel, Server
from ollama_router_core.config.sections import Section
from ollama_router_core.config.value_types import (
    DestinationName,
    Host,
    Network,
    Port,
    Seconds,
    SizeText,
    parse_size,
    safe_name,
)

__all__ = [
    "Config",
    "ExternalHost",
    "HostedModel",
    "Limits",
    "Logging",
    "MemoryPattern",
    "ModelRule",
    "ModelSettings",
    "Queue",
    "RequestLogSettings",
    "Server",
    "Strategy",
    "Tls",
    "parse_size",
    "safe_name",
]

Strategy = Literal["priority_with_memory", "least_loaded", "round_robin", "fastest"]


class Logging(Section):
    """Structured log files of the router itself; the request log lives in the database."""

    enabled: bool = Field(default=True, description="false writes no log files.")
    level: Literal["debug", "info", "warn", "warning", "error"] = Field(default="info", description="Least level.")
    directory: str | None = Field(default=None, description="Folder of the files; null logs to standard error only.")
    max_size: SizeText = Field(default="100MB", description="Size at which a file is rotated.")
    max_files: Annotated[int, Field(ge=1)] = Field(default=10, description="Files kept, the current one included.")


class Limits(Section):
    """Bounds on what a client may send and the router may hold."""

    max_body: SizeText = Field(default="32MB", description="Largest JSON body; more is answered with 413.")
    max_in_flight: Annotated[int, Field(ge=1)] = Field(
        default=2048, description="Proxied requests at once, in each worker; more are answered with 503."
    )
    max_head: SizeText = Field(default="32KB", description="Largest request line and header fields together.")
    max_fields: Annotated[int, Field(ge=1)] = Field(default=100, description="Header fields of a request at most.")
    max_target: SizeText = Field(default="8KB", description="Longest request target (path and query).")
    head_timeout: Seconds = Field(default=10.0, description="Seconds in which the head of a request must be here.")
    body_timeout: Seconds = Field(default=30.0, description="Seconds of silence allowed within the body of a request.")
    write_timeout: Seconds = Field(
        default=60.0,
        description="Seconds after which a client is cut that takes less than 512 bytes a second of what waits for it.",
    )
    shutdown_grace: Seconds = Field(default=300.0, description="Seconds that streams get to finish on SIGTERM.")


class Tls(Section):
    """TLS spoken by the router itself; both files or none."""

    certificate: str | None = Field(
        default=None, description="PEM file with the certificate and those it rests on; null speaks plain HTTP."
    )
    key: str | None = Field(
        default=None, description="PEM file with its private key, not encrypted; null takes it from `certificate`."
    )


class Queue(Section):
    """Requests that wait in the router until a server can take them."""

    max_waiting: Annotated[int, Field(ge=0)] = Field(
        default=64, description="Requests that may wait at once; more are answered with 503 and Retry-After."
    )
    max_wait: Seconds = Field(
        default=30.0, description="Seconds a request waits at most before it is answered with 503."
    )
    max_waiting_per_user: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Of those, requests of one user; null leaves it to the whole."
    )


class RequestLogSettings(Section):
    """Rows of the request log in the database; a running router deletes what it need not keep."""

    keep_days: Annotated[float, Field(gt=0)] | None = Field(
        default=90.0, description="Days after which a row is deleted; null keeps rows of any age."
    )
    max_rows: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Rows kept, the newest ones; null sets no limit."
    )
    directory: str | None = Field(
        default=None, description="Folder for the rows as JSON lines too, requests.jsonl; null writes no files."
    )
    max_size: SizeText = Field(default="100MB", description="Size at which a file of them is rotated.")
    max_files: Annotated[int, Field(ge=1)] = Field(
        default=10, description="Files of them kept, the current one included."
    )


class Traces(Section):
    """Spans for OpenTelemetry; needs the extra `otel`."""

    enabled: bool = Field(default=False, description="true sends a trace of each request by OTLP over HTTP.")
    endpoint: str | None = Field(
        default=None, description="Such as http://collector:4318/v1/traces; null leaves it to OTEL_... variables."
    )
    sample: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0, description="Share of requests that are traced, of those that bring no decision of their own."
    )


class Config(Section):
    """One environment's settings."""

    proxy_host: Host = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    proxy_port: Port = Field(default=11434, description="Port to listen on.")
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Processes that serve, each with a share of the connections; one for each core at most."
    )
    servers: dict[DestinationName, Server] = Field(default_factory=dict, description="Ollama servers by name.")
    external_hosts: dict[DestinationName, ExternalHost] = Field(
        default_factory=dict, description="Other services by name."
    )
    models: ModelSettings = Field(
        default=ModelSettings(), alias="model_config", description="Assignments and memory of models."
    )
    routing_strategy: Strategy = Field(default="priority_with_memory", description="How to rank servers that can.")
    when_nothing_fits: Literal["refuse", "first_enabled"] = Field(
        default="refuse",
        description="first_enabled sends to the first enabled server even if it cannot hold it.",
    )
    request_timeout: Seconds = Field(default=300.0, description="Seconds to wait for the first byte of an answer.")
    connect_timeout: Seconds = Field(default=3.0, description="Seconds to wait for a connection.")
    idle_timeout: Seconds = Field(default=60.0, description="Seconds of silence allowed within an answer.")
    load_keepalive: Seconds | None = Field(
        default=None,
        description="Seconds between signs of life to a client whose stream waits for a model to load; null sends"
        " none.",
    )
    health_check_interval: Seconds = Field(default=10.0, description="Seconds between probes of a server.")
    probe_timeout: Seconds = Field(
        default=2.0,
        description="Seconds to wait for the answer to a probe (`server_busy_threshold_ms` at least); three in a row"
        " that fail, one second apart, put a server out.",
    )
    server_busy_threshold_ms: Annotated[float, Field(gt=0)] = Field(
        default=1000.0,
        description="A server whose probe takes longer is chosen only when nothing else is left.",
    )
    model_info_timeout: Seconds = Field(default=10.0, description="Seconds to wait for a server's facts.")
    logging: Logging = Field(default=Logging(), description="Log files.")
    limits: Limits = Field(default=Limits(), description="Bounds.")
    tls: Tls = Field(default=Tls(), description="TLS for clients.")
    queue: Queue = Field(default=Queue(), description="Requests that wait for a server.")
    cloud: Literal["none", "admin", "all"] = Field(
        default="admin",
        description="Who may use models of ollama.com (`:cloud`, `-cloud`) and its web search: it is paid and leaves"
        " the house.",
    )
    allow_account_routes: bool = Field(
        default=False,
        description="true lets admins reach /api/me, /api/signout, /api/user/keys and /api/experimental: they act with"
        " the ollama.com account of a server's owner.",
    )
    token_in_path: bool = Field(
        default=False,
        description="true takes a token in the path, /t/TOKEN/api/..., for clients that can send no header; prefer"
        " `orouter connect`.",
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        strict=False,  # YAML's lists are lists; the entries stay strict
        description="Networks whose proxies are believed about the client's address: for `users set --networks` and the"
        " log.",
    )
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = Field(
        default="x-forwarded-for", description="The header in which those proxies tell it; the other is not read."
    )
    metrics_open: bool = Field(
        default=False, description="true answers GET /metrics to everybody; false to viewers and admins."
    )
    traces: Traces = Field(default=Traces(), description="Traces for OpenTelemetry.")
    request_log: RequestLogSettings = Field(default=RequestLogSettings(), description="Rows of the request log.")
    database_url: str | None = Field(
        default=None, repr=False, description="SQLAlchemy URL; null keeps a SQLite file in the user's data directory."
    )
