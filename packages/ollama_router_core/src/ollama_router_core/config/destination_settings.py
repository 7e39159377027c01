"""Settings of destinations: Ollama servers and external hosts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ollama_router_core.config.profile_lines import ProfileSettings
from ollama_router_core.config.sections import Section
from ollama_router_core.config.value_types import (
    Entries,
    FieldName,
    FieldValue,
    Host,
    PathPrefix,
    Port,
    QueryText,
    RouteText,
    Seconds,
    ServerUrl,
    VariableName,
    with_address,
)
from ollama_router_core.records.costs import Price

__all__ = ["ExternalHost", "HostedModel", "KvCacheType", "Server"]


ReachName = Literal["models", "tools", "stored", "urls"]
KvCacheType = Literal["f16", "q8_0", "q4_0"]


class Server(Section):
    """One Ollama server, or another router in front of some."""

    url: ServerUrl | None = Field(
        default=None,
        examples=["https://gpu.example/ollama"],
        description="Address in one: `protocol`, `host`, `port` and `path_prefix`.",
    )
    host: Host = Field(description="Host name or address.", examples=["192.168.1.11"])
    port: Port = Field(default=11434, description="TCP port.")
    protocol: Literal["http", "https"] = Field(default="http", description="Protocol of its address.")
    path_prefix: PathPrefix | None = Field(default=None, description="Path in front of every route, such as `/ollama`.")
    api_key_env: VariableName | None = Field(
        default=None,
        description="Environment variable with the key that it requires (`Authorization: Bearer`), such as the token"
        " of another router.",
    )
    api_key_file: str | None = Field(
        default=None, description="File that contains that key and nothing else; read at the start and on SIGHUP."
    )
    headers: dict[FieldName, FieldValue] = Field(
        default_factory=dict,
        repr=False,
        description="Header fields of every request to the server; values are never shown.",
    )
    ca_file: str | None = Field(
        default=None,
        description="PEM file with the authority that signed its certificate; null trusts the system's. For the"
        " proxy only: the client-side router trusts what httpx trusts.",
    )
    name: str | None = Field(
        default=None, description="Not used; accepted so that files of the Rails application load."
    )
    priority: int = Field(default=1, description="Rank among suitable servers; the lowest number is preferred.")
    max_memory_gb: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Largest model (GiB, context included) to place here; null sets no limit."
    )
    gpus: Entries[Annotated[float, Field(gt=0)]] | None = Field(
        default=None,
        examples=[[24.0, 24.0]],
        description="Memory of each of its GPUs in GiB; their sum is the limit where max_memory_gb is null. A model"
        " that fits on no single GPU is split over all, with buffers on each.",
    )
    sched_spread: bool = Field(
        default=False,
        description="Whether it runs with OLLAMA_SCHED_SPREAD: every model is then split over all `gpus`.",
    )
    system_memory_gb: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="GiB of main memory for the part of a model that its GPUs cannot hold (partial offload). The"
        " router places such a model here only if no server's GPUs can hold it whole; it runs many times"
        " slower. 0 allows none.",
    )
    max_concurrent: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Requests in flight on this server; null sets no limit."
    )
    enabled: bool = Field(default=True, description="false takes the server out of routing.")
    drain: bool = Field(default=False, description="true lets it finish its requests and sends no new ones.")
    warm_up: Entries[str] = Field(
        default=(), description="Models to load when the router starts and whenever the server comes back."
    )
    default_context: Annotated[int, Field(ge=4)] | None = Field(
        default=None,
        description="Context in tokens for requests that set none (the server's OLLAMA_CONTEXT_LENGTH); null"
        " assumes Ollama's automatic choice.",
    )
    num_parallel: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Requests that a loaded model serves at once (the server's OLLAMA_NUM_PARALLEL); the router"
        " sends no more. null learns it from requests that had to wait there: until then `fastest` sends"
        " one, and one more than began at once before if requests queue; the other strategies send any"
        " number. For another router: what its fleet serves.",
    )
    max_loaded_models: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Models that it keeps in memory at once (the server's OLLAMA_MAX_LOADED_MODELS); null"
        " assumes Ollama's default of three for each GPU until another number is observed.",
    )
    cancels_on_disconnect: bool = Field(
        default=True,
        description="Ollama ends a run when its connection closes, so the router retries a request on another server"
        " if the connection broke before an answer began. false for a server that finishes such a run:"
        " the client gets the error.",
    )
    rerank: PathPrefix | None = Field(
        default=None,
        examples=["/v1/rerank"],
        description="Path of its reranking, to which the router forwards `/v1/rerank`, `/rerank` and `/api/rerank`;"
        " null if it has none. Ollama has none; llama.cpp, vLLM and TEI do.",
    )
    kv_cache_type: KvCacheType = Field(default="f16", description="The server's OLLAMA_KV_CACHE_TYPE.")
    flash_attention: bool = Field(
        default=True,
        description="false if the server runs with OLLAMA_FLASH_ATTENTION=0, which needs more scratch memory and"
        " keeps the KV cache in f16, whatever `kv_cache_type` says.",
    )
    gpu_overhead_gb: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="GiB that the server keeps free (its OLLAMA_GPU_OVERHEAD)."
    )

    @model_validator(mode="before")
    @classmethod
    def _url_is_an_address(cls, values: Any) -> Any:
        return with_address(values) if isinstance(values, dict) and isinstance(values.get("url"), str) else values


class HostedModel(Section):
    """A model of an external host: its name there and its capabilities. A plain text is the name."""

    name: str | None = Field(default=None, description="The model's name on that host; null uses the client's.")
    capabilities: Entries[Literal["completion", "tools", "vision", "thinking", "embedding", "audio"]] | None = Field(
        default=None,
        description="Capabilities listed in `/api/show` and `/api/tags`; null uses the values of well-known models,"
        " otherwise completion.",
    )
    context_length: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Context in tokens listed in `/api/show` and `/v1/models`; null uses the values of well-known"
        " models, otherwise lists none.",
    )
    max_output_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Longest answer in tokens, listed to Anthropic's clients in `/v1/models`; null as for the context.",
    )

    input_price: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        default=None,
        description="Price of a million prompt tokens, in `currency`. Usage, and the model as shown to users, then"
        " include an estimated cost; cached tokens cost the same.",
        examples=[2.5],
    )
    output_price: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        default=None, description="Price of a million output tokens; if only one of the two is set, the other is 0."
    )

    @property
    def price(self) -> Price | None:
        """Both prices; None if neither is set."""
        if self.input_price is None and self.output_price is None:
            return None
        return Price(self.input_price or 0.0, self.output_price or 0.0)

    @model_validator(mode="before")
    @classmethod
    def _text_is_name(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else values


class ExternalHost(Section):
    """An external service, used only by explicit assignment."""

    host: Host = Field(description="Host name or address.", examples=["api.openai.com"])
    port: Port = Field(default=443, description="TCP port.")
    protocol: Literal["http", "https"] = Field(default="https", description="Protocol of its address.")
    api: Literal["openai", "openai_responses", "anthropic", "ollama", "auto"] = Field(
        default="auto",
        description="The API it speaks; requests in another one are translated. openai_responses is `/v1/responses`;"
        " auto is anthropic for anthropic.com, ollama for ollama.com, otherwise openai.",
    )
    path_prefix: PathPrefix | None = Field(
        default=None,
        description="Path that replaces `/v1`, such as `/openai/v1`; `{model}` is replaced by the model's name. For"
        " an Ollama API, a prefix to every path.",
    )
    query: QueryText | None = Field(
        default=None, description="Query string of every request, such as `api-version=2024-10-21`; not for keys."
    )
    headers: dict[FieldName, FieldValue] = Field(
        default_factory=dict,
        repr=False,
        description="Header fields of every request to the host; values are never shown, and `${VARIABLE}` keeps them"
        " out of the file.",
    )
    api_key_env: VariableName | None = Field(
        default=None, description="Environment variable with the API key; read when the router starts."
    )
    api_key_file: str | None = Field(
        default=None, description="File that contains the API key and nothing else; read at the start and on SIGHUP."
    )
    api_key_header: FieldName | None = Field(
        default=None,
        description="Header for the API key; null uses `x-api-key` for Anthropic's API, otherwise `Authorization:"
        " Bearer`.",
    )
    models: dict[str, HostedModel] = Field(
        default_factory=dict,
        examples=["claude"],
        description="Model as clients name it to its name on that host, or to a table of details.",
    )
    profile: ProfileSettings = Field(
        default_factory=ProfileSettings,
        description="What the host accepts, see [host profiles](host-profiles.md): a profile's name, or a table.",
    )
    learn_unsupported: bool = Field(
        default=False,
        description="true retries a request once without a parameter that the host rejects by name (400 or 422) and"
        " the profile does not list, and omits it for that model afterwards.",
    )
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        default=None,
        description="Name of the output limit in an OpenAI API; null uses the profile's, otherwise max_tokens.",
    )
    default_max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Output limit sent to an Anthropic API, which requires one, when the client sets none; null uses"
        " the profile's, otherwise 4096.",
    )
    extensions: bool | None = Field(
        default=None,
        description="true for an OpenAI API that accepts top_k, min_p and the like (vLLM, llama.cpp); null uses the"
        " profile's, otherwise false.",
    )
    responses: bool | None = Field(
        default=None,
        description="Whether an OpenAI API has `/v1/responses` itself; false translates it to chat completions. null"
        " uses the profile's, otherwise false.",
    )
    schemas: bool | None = Field(
        default=None,
        description="false for an Anthropic API that ignores schemas (llama.cpp); requests with one are then rejected."
        " null uses the profile's, otherwise true.",
    )
    stream_usage: bool | None = Field(
        default=None,
        description="Whether an OpenAI API accepts `stream_options.include_usage`; false counts the chunks of a"
        " stream instead. null uses the profile's, otherwise true; Azure's API before 2024-09 does not.",
    )
    rerank: PathPrefix | None = Field(
        default=None,
        examples=["/v1/rerank"],
        description="Path of its reranking, to which the router forwards `/v1/rerank`, `/rerank` and `/api/rerank`;"
        " null if it has none. Jina, Cohere, Voyage, llama.cpp, vLLM and TEI do.",
    )
    request_timeout: Seconds | None = Field(
        default=None, description="Overrides the general request_timeout for this host."
    )
    connect_timeout: Seconds | None = Field(
        default=None, description="Overrides the general connect_timeout for this host."
    )
    idle_timeout: Seconds | None = Field(
        default=None,
        description="Overrides the general idle_timeout for this host; if neither is set, its request_timeout.",
    )
    name: str | None = Field(
        default=None, description="Not used; accepted so that files of the Rails application load."
    )
    enabled: bool = Field(default=True, description="false rejects requests for the models assigned to it.")
    routes: Entries[RouteText] = Field(
        default=(),
        description="Further routes of the host, passed through under /external/<name>, such as `GET /v1/files/{id}`.",
    )
    reach: Entries[ReachName] = Field(
        default=(),
        description="What every user may request of the host beyond an answer of the named model: other `models`,"
        " `tools` that run there, data `stored` there, `urls` in private networks. Admins, and users"
        " granted it with `users set --reach`, may always.",
    )
    routes_for: Literal["admin", "all"] = Field(default="admin", description="Who may use `routes`.")
