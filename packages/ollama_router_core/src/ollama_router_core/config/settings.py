"""Every setting of the router, with its type, default and meaning.

Keys of the Rails application that this project replaces keep their names, meanings and paths. Sizes in `*_gb` are GiB
(1024^3 bytes), as in that application. Durations are seconds unless the name ends in `_ms`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ollama_router_core.config.client_settings import Cors, Limits, Queue, Tls
from ollama_router_core.config.destination_settings import ExternalHost, HostedModel, Server
from ollama_router_core.config.discovery_settings import Discovery
from ollama_router_core.config.log_settings import Logging, RequestLogSettings, Traces
from ollama_router_core.config.model_settings import MemoryPattern, ModelRule, ModelSettings
from ollama_router_core.config.sections import Section
from ollama_router_core.config.value_types import (
    DestinationName,
    Entries,
    FieldName,
    Host,
    Network,
    Port,
    Seconds,
    SizeText,
    UnknownPath,
    parse_size,
    safe_name,
)

__all__ = [
    "Config",
    "Console",
    "CoordinationSettings",
    "Discovery",
    "ExternalHost",
    "HostedModel",
    "Limits",
    "Logging",
    "MemoryPattern",
    "ModelRule",
    "ModelSettings",
    "Persons",
    "Queue",
    "RequestLogSettings",
    "Responses",
    "Server",
    "StrategyName",
    "Tls",
    "Traces",
    "parse_size",
    "safe_name",
]

StrategyName = Literal["priority_with_memory", "least_loaded", "round_robin", "fastest"]


class Responses(Section):
    """Stored responses of `/v1/responses`."""

    store: bool = Field(
        default=False,
        description="true stores responses and their requests in the database, per user: `previous_response_id` then"
        f" works with models of every host, and so do `GET` and `DELETE /v1/responses/{id}`. This stores prompts.",
    )
    keep: Seconds = Field(default=604_800.0, description="Seconds after which a response is deleted.")
    max_per_user: Annotated[int, Field(ge=1)] = Field(
        default=200, description="Responses stored per user; the oldest are deleted first."
    )
    max_size: SizeText = Field(
        default="1MB", description="Longest conversation that is stored; a longer one is answered but not stored."
    )


class Persons(Section):
    """People behind a client whose user may send requests on behalf of others (`users set --speaks-for`)."""

    header: FieldName | None = Field(
        default=None,
        description="Header field in which such clients name the person, tried before those of Open WebUI, LibreChat"
        " and"
        " LiteLLM, `user`, `safety_identifier` and `metadata.user_id`; null uses only these.",
    )
    unknown: Literal["refuse", "make"] = Field(
        default="refuse",
        description="make creates a user without a token, in the client's group, for an unknown name; refuse answers"
        " 403.",
    )
    max_users: Annotated[int, Field(ge=0)] = Field(
        default=1000, description="Maximum number of users without a token; further names are refused."
    )


PublicUrl = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+(?:/[A-Za-z0-9._~\-]+)*/?$")]


class Console(Section):
    """The web console at /console/."""

    enabled: bool = Field(default=True, description="false answers 404 on every path of the console.")
    networks: Entries[Network] = Field(
        default=(),
        description="Client networks that may open the console, such as 10.0.0.0/8; an empty list allows all.",
    )
    public_url: PublicUrl | None = Field(
        default=None,
        description="Address at which users reach the router, such as https://llm.example/router: shown in snippets;"
        " its path is the prefix of the console's cookie. null uses the address of the request.",
    )
    session_idle_timeout: Seconds = Field(
        default=43_200.0, description="Seconds without use after which a session ends."
    )
    session_max_age: Seconds = Field(default=604_800.0, description="Seconds after which a session ends in any case.")


class CoordinationSettings(Section):
    """Live state that several routers share in Redis or Valkey; needs the extra `redis`."""

    url: str | None = Field(
        default=None,
        repr=False,
        description="redis://, rediss:// (TLS) or unix:// URL, with user and password if the server requires them;"
        " null shares only limits with other routers, through the database.",
    )
    fleet: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = Field(
        default="default", description="Name of the fleet: routers with one name on one server behave as one."
    )
    cluster: bool = Field(default=False, description="true for a Redis Cluster; a fleet's keys are on one node of it.")
    sentinels: Entries[str] = Field(
        default=(),
        description="HOST:PORT of the Sentinels that know the server; user, password and database are the URL's.",
    )
    sentinel_service: str = Field(default="mymaster", description="The server's name at the Sentinels.")
    heartbeat: Seconds = Field(
        default=10.0,
        description="Seconds between heartbeats; slots of a router that misses two of them are free again.",
    )
    timeout: Seconds = Field(
        default=0.05,
        description="Seconds after which a router continues without the server, with its share of every limit.",
    )


class Config(Section):
    """One environment's settings."""

    proxy_host: Host = Field(
        default="127.0.0.1", description="Address to listen on; 0.0.0.0 listens on every interface."
    )
    proxy_port: Port = Field(default=11434, description="Port to listen on.")
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Worker processes that share the listening address; at most one per core."
    )
    servers: dict[DestinationName, Server] = Field(
        default_factory=dict,
        examples=["big"],
        description="Ollama servers by name; `all` and `where-it-fits` are reserved.",
    )
    external_hosts: dict[DestinationName, ExternalHost] = Field(
        default_factory=dict,
        examples=["openai"],
        description="External services by name: OpenAI, Anthropic and anything that speaks one of their APIs.",
    )
    discovery: Discovery = Field(default=Discovery(), description="Where to find servers that are not listed.")
    models: ModelSettings = Field(
        default=ModelSettings(),
        alias="model_config",
        description="Where models run, limits on their requests, and their memory.",
    )
    routing_strategy: StrategyName = Field(
        default="priority_with_memory", description="How the servers that can take a request are ranked."
    )
    when_nothing_fits: Literal["refuse", "first_enabled"] = Field(
        default="refuse",
        description="refuse answers with an error; first_enabled sends the request to the first enabled server"
        " although the model does not fit.",
    )
    request_timeout: Seconds = Field(default=300.0, description="Seconds to wait for the first byte of an answer.")
    connect_timeout: Seconds = Field(default=3.0, description="Seconds to wait for a connection to a server.")
    idle_timeout: Seconds | None = Field(
        default=None,
        description="Seconds that a server may stay silent within an answer; null is request_timeout. Ollama is silent"
        " while a model writes the arguments of a tool call, often for minutes.",
    )
    load_keepalive: Seconds | None = Field(
        default=None,
        description="Seconds between keepalive messages on a stream that waits in the queue or for a silent server:"
        " while a model loads, reads a long prompt or writes a tool call; null sends none.",
    )
    health_check_interval: Seconds = Field(default=10.0, description="Seconds between two probes of a server.")
    probe_timeout: Seconds = Field(
        default=2.0,
        description="Seconds to wait for the answer to a probe, never less than `server_busy_threshold_ms`. Three"
        " failed probes in a row, one second apart, mark a server as down.",
    )
    load_probe: bool = Field(
        default=False,
        description="true tests a runner that seems stuck while its server answers probes: the router requests one"
        " token, so that no user's request has to. This loads the model if it is not in memory, and may"
        " evict another.",
    )
    server_busy_threshold_ms: Annotated[float, Field(gt=0)] = Field(
        default=1000.0, description="A server whose probe takes longer than this many milliseconds is chosen last."
    )
    model_info_timeout: Seconds = Field(default=10.0, description="Seconds to wait for a server's model list.")
    logging: Logging = Field(default=Logging(), description="The router's own log.")
    limits: Limits = Field(default=Limits(), description="Bounds on what clients may send and hold open.")
    tls: Tls = Field(default=Tls(), description="TLS between clients and the router; both files or none.")
    queue: Queue = Field(default=Queue(), description="The queue for requests that no server can take yet.")
    cloud: Literal["none", "admin", "all"] = Field(
        default="admin",
        description="Who may use models of ollama.com (`:cloud`, `-cloud`) and its web search. They cost money and"
        " send prompts off site.",
    )
    cors: Cors = Field(default=Cors(), description="Web pages that may use the router from a browser.")
    external_hosts_for: Literal["all", "granted"] = Field(
        default="all",
        description="Who may use external hosts, which cost money: all users, or admins and users granted them with"
        " `users set --hosts`. Grants take precedence; `orouter init` writes granted.",
    )
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field(
        default="USD",
        description="Currency of all prices of external hosts' models, as its ISO 4217 code. A change does not"
        " convert recorded costs.",
    )
    allow_account_routes: bool = Field(
        default=False,
        description="true opens /api/me, /api/signout, /api/user/keys and /api/experimental to admins. They act on"
        " the ollama.com account that a server is signed in to.",
    )
    forward_unknown: Entries[UnknownPath] = Field(
        default=(),
        description="Unknown paths, such as `/v1/...`, that the router forwards to the assigned or best server"
        " of the model in the body. `...` matches everything below. The router does not know what such a"
        " route does: every user who may use the model can call it, and no tokens are counted."
        " `/v1/rerank` and `/api/rerank`, listed here in full, are forwarded this way whatever `rerank` says.",
    )
    token_in_path: bool = Field(
        default=False,
        description="true accepts a token in the path, /t/TOKEN/api/..., for clients that cannot send a header;"
        " prefer `orouter connect`.",
    )
    trusted_proxies: Entries[Network] = Field(
        default=(),
        description="Networks of reverse proxies whose forwarded client address is trusted, for `users set"
        " --networks` and the log.",
    )
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = Field(
        default="x-forwarded-for",
        description="The header in which those proxies forward the client's address; the others are ignored.",
    )
    responses: Responses = Field(default=Responses(), description="Stored responses of `/v1/responses`.")
    persons: Persons = Field(
        default=Persons(), description="Users behind a client that sends requests for many people."
    )
    console: Console = Field(default=Console(), description="The web console at /console/.")
    metrics_open: bool = Field(
        default=False, description="true serves GET /metrics to everybody; false to viewers and admins only."
    )
    traces: Traces = Field(default=Traces(), description="OpenTelemetry traces; needs the extra `otel`.")
    request_log: RequestLogSettings = Field(
        default=RequestLogSettings(),
        description="How long the request log keeps rows, and whether it also writes them to files.",
    )
    database_url: str | None = Field(
        default=None,
        repr=False,
        description="SQLAlchemy URL of the database; null uses a SQLite file in the user's data directory.",
    )
    coordination: CoordinationSettings = Field(
        default=CoordinationSettings(), description="Where several routers share their live state."
    )
    database_grace: Seconds = Field(
        default=600.0,
        description="Seconds for which known users are served while the database does not answer; after that every"
        " request is rejected. Changes of users and tokens take effect when it answers again.",
    )
