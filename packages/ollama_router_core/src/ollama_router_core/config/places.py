"""The settings of places that requests are sent to: Ollama servers and external hosts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ollama_router_core.config.sections import Section
from ollama_router_core.config.value_types import (
    FieldName,
    FieldValue,
    Host,
    PathPrefix,
    Port,
    QueryText,
    RouteText,
    Seconds,
    VariableName,
)

__all__ = ["ExternalHost", "HostedModel", "Server"]


class Server(Section):
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


class HostedModel(Section):
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


class ExternalHost(Section):
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
