"""Every setting of the router, typed, with its default and its meaning.

Belongs here: the shape of one environment's section of a config file.
Does not belong here: reading files, the environment, YAML (see `loading`).

The keys of the Rails application this project replaces keep their names, meanings and places. Sizes in `*_gb`
are GiB (1024^3 bytes), as there. Durations are seconds unless the name says `_ms`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ollama_router_core.config.value_types import (
    DestinationName,
    FieldName,
    FieldValue,
    Host,
    Network,
    PathPrefix,
    Port,
    QueryText,
    Regex,
    RouteText,
    Seconds,
    SizeText,
    VariableName,
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


class _Section(BaseModel):
    """Unknown keys are errors, values are taken as they are, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, values: Any) -> Any:
        """A key with nothing but comments under it is null in YAML; where a table is expected it means none."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if value is not None or not cls._is_table(key)}

    @classmethod
    def _is_table(cls, key: str) -> bool:
        for name, field in cls.model_fields.items():
            if key in (name, field.alias):
                kind = get_origin(field.annotation) or field.annotation
                return isinstance(kind, type) and issubclass(kind, dict | tuple | _Section)
        return False


class Server(_Section):
    """One Ollama server."""

    host: Host = Field(description="Host name or address.")
    port: Port = Field(default=11434, description="TCP port.")
    protocol: Literal["http", "https"] = Field(default="http", description="How to speak to it.")
    name: str | None = Field(default=None, description="A name for people; the key is what commands use.")
    priority: int = Field(default=1, description="The smallest number wins among servers that fit.")
    max_memory_gb: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Largest model (GiB, with its context) to place here; null sets no limit."
    )
    max_concurrent: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Requests in flight here at once; null sets no limit."
    )
    enabled: bool = Field(default=True, description="false takes the server out of all routing.")
    drain: bool = Field(default=False, description="true lets it finish what it has and sends it nothing new.")
    warm_up: tuple[str, ...] = Field(
        default=(),
        strict=False,  # YAML's lists are lists; the entries stay strict
        description="Models to load here when the router starts and whenever the server comes back.",
    )
    default_context: Annotated[int, Field(ge=4)] | None = Field(
        default=None,
        description="Context in tokens of requests that ask for none (its OLLAMA_CONTEXT_LENGTH); null: automatic.",
    )
    num_parallel: Annotated[int, Field(ge=1)] = Field(
        default=1, description="Requests one loaded model serves at once there (its OLLAMA_NUM_PARALLEL)."
    )
    kv_cache_type: Literal["f16", "q8_0", "q4_0"] = Field(default="f16", description="Its OLLAMA_KV_CACHE_TYPE.")
    flash_attention: bool = Field(
        default=True, description="false when it runs with OLLAMA_FLASH_ATTENTION=0: more scratch memory."
    )
    gpu_overhead_gb: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="GiB it keeps free (its OLLAMA_GPU_OVERHEAD)."
    )


class HostedModel(_Section):
    """A model of an external host: its name there and what it can do. A text alone is the name."""

    name: str | None = Field(default=None, description="Its name there; null: as clients write it.")
    capabilities: tuple[Literal["completion", "tools", "vision", "thinking", "embedding", "audio"], ...] | None = Field(
        default=None,
        strict=False,  # YAML's lists are lists; the entries stay strict
        description="What `/api/show` and `/api/tags` say it can do; null: completion, or embedding by its name.",
    )
    context_length: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Context in tokens that `/api/show` tells; null says nothing."
    )

    @model_validator(mode="before")
    @classmethod
    def _text_is_name(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else values


class ExternalHost(_Section):
    """A paid or foreign service; only explicit assignments lead to it."""

    host: Host = Field(description="Host name or address.")
    port: Port = Field(default=443, description="TCP port.")
    protocol: Literal["http", "https"] = Field(default="https", description="How to speak to it.")
    api: Literal["openai", "anthropic", "ollama", "auto"] = Field(
        default="auto",
        description="The API it speaks; requests in another are translated. auto: anthropic for anthropic.com, ollama"
        " for ollama.com, else openai.",
    )
    path_prefix: PathPrefix | None = Field(
        default=None,
        description="What stands in its paths in place of `/v1`, such as `/openai/v1`; `{model}` is the model's name"
        " there. For an Ollama API: what stands in front.",
    )
    query: QueryText | None = Field(
        default=None, description="Query string of every request there, such as `api-version=2024-10-21`; not for keys."
    )
    headers: dict[FieldName, FieldValue] = Field(
        default_factory=dict,
        repr=False,
        description="Header fields of every request there; values are never shown, `${VARIABLE}` keeps them out of the"
        " file.",
    )
    api_key_env: VariableName | None = Field(
        default=None, description="Environment variable that holds the key; read when the router starts."
    )
    api_key_file: str | None = Field(
        default=None, description="File that holds the key and nothing else; read at the start and on SIGHUP."
    )
    api_key_header: FieldName | None = Field(
        default=None,
        description="Header field for the key; null: `x-api-key` for Anthropic's API, else `Authorization: Bearer`.",
    )
    models: dict[str, HostedModel] = Field(
        default_factory=dict, description="Model as clients call it to its name there, or to a table of details."
    )
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        default=None,
        description="How an OpenAI API takes the limit of an answer; null: max_completion_tokens for openai.com and"
        " Azure, else max_tokens.",
    )
    default_max_tokens: Annotated[int, Field(ge=1)] = Field(
        default=4096, description="Limit sent to an Anthropic API, which demands one, when the client gives none."
    )
    extensions: bool = Field(
        default=False,
        description="true for an OpenAI API that takes top_k, min_p and the like (vLLM, llama.cpp).",
    )
    schemas: bool = Field(
        default=True, description="false for an Anthropic API that ignores schemas (llama.cpp): they are refused."
    )
    request_timeout: Seconds | None = Field(default=None, description="Instead of the general one, for this host.")
    connect_timeout: Seconds | None = Field(default=None, description="Instead of the general one, for this host.")
    idle_timeout: Seconds | None = Field(default=None, description="Instead of the general one, for this host.")
    name: str | None = Field(default=None, description="A name for people.")
    enabled: bool = Field(default=True, description="false refuses what is assigned to it.")
    routes: tuple[RouteText, ...] = Field(
        default=(),
        strict=False,  # YAML's lists are lists; the entries stay strict
        description="Routes of its own that pass under /external/<name>, such as `GET /v1/files/{id}`.",
    )
    routes_for: Literal["admin", "all"] = Field(default="admin", description="Who may use `routes`.")


class MemoryPattern(_Section):
    """Memory for every model whose name contains a match."""

    pattern: Regex = Field(description="Regular expression, found anywhere in the name.")
    memory_gb: float = Field(ge=0, description="GiB such a model needs.")


class ModelRule(_Section):
    """What requests for some models may ask for; the first rule whose pattern fits holds."""

    pattern: str = Field(min_length=1, description="Names the rule is for; * stands for anything: `llama3*`.")
    num_ctx: Annotated[int, Field(ge=4)] | None = Field(
        default=None, description="Every request gets exactly this context, so that no two reload the model in turn."
    )
    min_num_ctx: Annotated[int, Field(ge=4)] | None = Field(
        default=None, description="A request for a smaller context gets this one."
    )
    max_num_ctx: Annotated[int, Field(ge=4)] | None = Field(
        default=None, description="A request for a larger context gets this one."
    )
    max_keep_alive: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Seconds that a request may keep its model loaded at most; for ever is more."
    )


class ModelSettings(_Section):
    """Where models go and how much memory they need."""

    explicit_assignments: dict[str, str] = Field(
        default_factory=dict,
        description="Model to the server or external host that serves it, whatever else holds.",
    )
    memory_overrides: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="Model to GiB; beats every other estimate."
    )
    memory_patterns: tuple[MemoryPattern, ...] = Field(
        default=(),
        strict=False,  # YAML's lists are lists; the entries stay strict
        description="First match decides, after what servers report and what the name says.",
    )
    default_memory_gb: float = Field(default=4.5, ge=0, description="GiB when nothing else is known.")
    rules: tuple[ModelRule, ...] = Field(
        default=(),
        strict=False,  # YAML's lists are lists; the entries stay strict
        description="Contexts and keep-alives that requests may ask for.",
    )
    aliases: dict[str, str] = Field(
        default_factory=dict, description="Name that clients use to the model that is meant, as `gpt-4: llama3.1:70b`."
    )
    fallbacks: dict[str, str] = Field(
        default_factory=dict,
        description="Model to the one that may answer in its place when no server can take it; announced in a header.",
    )
    local_only: tuple[str, ...] = Field(
        default=(),
        strict=False,  # YAML's lists are lists; the entries stay strict
        description="Names (* stands for anything) that no assignment, alias or fallback may lead to an external host.",
    )
    cache_model_info: bool = Field(
        default=True, description="false asks for each server's models at every health check."
    )
    cache_ttl_seconds: Seconds = Field(
        default=300.0, description="Age at which a server's list of models is asked for again."
    )


class Logging(_Section):
    """Structured log files of the router itself; the request log lives in the database."""

    enabled: bool = Field(default=True, description="false writes no log files.")
    level: Literal["debug", "info", "warn", "warning", "error"] = Field(default="info", description="Least level.")
    directory: str | None = Field(default=None, description="Folder of the files; null logs to standard error only.")
    max_size: SizeText = Field(default="100MB", description="Size at which a file is rotated.")
    max_files: Annotated[int, Field(ge=1)] = Field(default=10, description="Files kept, the current one included.")


class Limits(_Section):
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


class Tls(_Section):
    """TLS spoken by the router itself; both files or none."""

    certificate: str | None = Field(
        default=None, description="PEM file with the certificate and those it rests on; null speaks plain HTTP."
    )
    key: str | None = Field(
        default=None, description="PEM file with its private key, not encrypted; null takes it from `certificate`."
    )


class Queue(_Section):
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


class RequestLogSettings(_Section):
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


class Traces(_Section):
    """Spans for OpenTelemetry; needs the extra `otel`."""

    enabled: bool = Field(default=False, description="true sends a trace of each request by OTLP over HTTP.")
    endpoint: str | None = Field(
        default=None, description="Such as http://collector:4318/v1/traces; null leaves it to OTEL_... variables."
    )
    sample: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0, description="Share of requests that are traced, of those that bring no decision of their own."
    )


class Config(_Section):
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
        description="Seconds between signs of life to a client whose stream waits for a model to load; null sends none.",
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
