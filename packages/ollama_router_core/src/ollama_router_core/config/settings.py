"""Every setting of the router, typed, with its default and its meaning.

Belongs here: the shape of one environment's section of a config file.
Does not belong here: reading files, the environment, YAML (see `loading`).

The keys of the Rails application this project replaces keep their names, meanings and places. Sizes in `*_gb`
are GiB (1024^3 bytes), as there. Durations are seconds unless the name says `_ms`.
"""

from __future__ import annotations

import re
import warnings
from decimal import Decimal
from typing import Annotated, Any, Literal, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ollama_router_core.config.words import Words, value_words

__all__ = [
    "Config",
    "ExternalHost",
    "Limits",
    "Logging",
    "MemoryPattern",
    "ModelSettings",
    "Queue",
    "Server",
    "Strategy",
    "parse_size",
    "safe_name",
]

Strategy = Literal["priority_with_memory", "least_loaded", "round_robin", "fastest"]

_SIZE = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([KMGT]?)(?:I?B)?\s*", re.IGNORECASE | re.ASCII)
_HOST = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]{0,251}[A-Za-z0-9_.])?|[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]+)?", re.ASCII
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NAME = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
_ROUTE = re.compile(r"(?:GET|POST|PUT|DELETE|PATCH) (?:/(?:\{[a-z_]+\}|[A-Za-z0-9_\-][A-Za-z0-9_.\-]*))+", re.ASCII)
_UNIT = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parse_size(text: str) -> int:
    """Bytes in a text such as `100MB`, `1.5 GiB` or `4096`; every unit counts in steps of 1024.

    Raises:
        ValueError: the text is no size.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"expected a size such as 100MB or 1GiB, got {value_words(text)}")
    return int(Decimal(found[1]) * _UNIT[found[2].upper()])


def safe_name(text: str) -> str:
    """The nearest text that may name a server: other characters become `-`, and nothing becomes `server`."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "-", text)[:80].strip("-.") or "server"


def _size(text: str) -> str:
    if parse_size(text) < 1:
        raise ValueError(f"expected a size above 0, such as 100MB, got {value_words(text)}")
    return text


def _regex(text: str) -> str:
    try:
        with warnings.catch_warnings():
            # A pattern that a later Python reads otherwise is not a rule to route by.
            warnings.simplefilter("error")
            re.compile(text)
    except (re.error, Warning, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a regular expression: {error}") from None
    return text


def _host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not _HOST.fullmatch(bare):
        # The text is not repeated: people paste whole URLs here, with a password inside.
        raise ValueError("expected a host name or address alone, without scheme, port, path or user")
    return bare


def _variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        # The text is not repeated: it may be the key itself.
        raise ValueError("expected the name of an environment variable that holds the key, not the key itself")
    return text


def _route(text: str) -> str:
    if not _ROUTE.fullmatch(text):
        raise ValueError("expected a method and a path such as `GET /v1/files` or `DELETE /v1/files/{id}`")
    return text


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("expected a name of at most 100 ASCII characters, since it is sent in a header")
    return text


Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0), Words("a number of seconds above 0")]
SizeText = Annotated[str, AfterValidator(_size), Words("a size such as 100MB")]
Regex = Annotated[str, AfterValidator(_regex), Words("a regular expression")]
Host = Annotated[str, AfterValidator(_host), Words("a host name or address")]
VariableName = Annotated[str, AfterValidator(_variable), Words("the name of an environment variable")]
RouteText = Annotated[str, AfterValidator(_route), Words("a method and a path")]
DestinationName = Annotated[str, AfterValidator(_name), Words("a name")]


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


class ExternalHost(_Section):
    """A paid or foreign service; only explicit assignments lead to it."""

    host: Host = Field(description="Host name or address.")
    port: Port = Field(default=443, description="TCP port.")
    protocol: Literal["http", "https"] = Field(default="https", description="How to speak to it.")
    api_key_env: VariableName | None = Field(
        default=None, description="Environment variable that holds the key; read when the router starts."
    )
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
        default=2048, description="Proxied requests at once; more are answered with 503."
    )
    shutdown_grace: Seconds = Field(default=300.0, description="Seconds that streams get to finish on SIGTERM.")


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


class Config(_Section):
    """One environment's settings."""

    proxy_host: Host = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    proxy_port: Port = Field(default=11434, description="Port to listen on.")
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
    health_check_interval: Seconds = Field(default=30.0, description="Seconds between probes of a server.")
    server_busy_threshold_ms: Annotated[float, Field(gt=0)] = Field(
        default=1000.0,
        description="A server whose probe takes longer is chosen only when nothing else is left.",
    )
    model_info_timeout: Seconds = Field(default=10.0, description="Seconds to wait for a server's facts.")
    logging: Logging = Field(default=Logging(), description="Log files.")
    limits: Limits = Field(default=Limits(), description="Bounds.")
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
    database_url: str | None = Field(
        default=None, repr=False, description="SQLAlchemy URL; null keeps a SQLite file in the user's data directory."
    )
