"""Settings of models: placement, memory and limits of requests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ollama_router_core.config.sections import Section
from ollama_router_core.config.value_types import Entries, Regex, Seconds

__all__ = ["MemoryPattern", "ModelRule", "ModelSettings"]


class MemoryPattern(Section):
    """Memory of models with a matching name."""

    pattern: Regex = Field(
        examples=["-70b|:70b"],
        description="Regular expression in RE2's syntax, without lookarounds and back-references; searched anywhere in"
        " the model's name.",
    )
    memory_gb: float = Field(ge=0, examples=[40.0], description="GiB that a matching model needs.")


class ModelRule(Section):
    """Limits of requests for matching models; the first matching rule applies."""

    pattern: str = Field(
        min_length=1,
        examples=["llama3*"],
        description="Model names that the rule applies to; * matches anything, as in `llama3*`. The first matching rule"
        " applies.",
    )
    num_ctx: Annotated[int, Field(ge=4)] | None = Field(
        default=None,
        description="Context for every request, whatever it sets, so that requests do not reload the model in turn.",
    )
    min_num_ctx: Annotated[int, Field(ge=4)] | None = Field(
        default=None, description="Smallest context; requests for less get this one."
    )
    max_num_ctx: Annotated[int, Field(ge=4)] | None = Field(
        default=None, description="Largest context; requests for more get this one."
    )
    max_keep_alive: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="Longest keep_alive in seconds that a request may set; keeping a model loaded forever counts as"
        " more.",
    )
    max_wait: Seconds | None = Field(
        default=None, description="Seconds that a request may wait for a server; null uses `queue.max_wait`."
    )
    strip_noise: bool = Field(
        default=False,
        description="true removes text that clients put into prompts but not for the model and that changes with each"
        " request, such as Claude Code's billing header, so that prefix caches of servers match."
        " `X-Router-Dropped` names it.",
    )
    priority: Literal["interactive", "batch"] = Field(
        default="interactive", description="batch requests get only slots that no interactive request waits for."
    )


class ModelSettings(Section):
    """Placement and memory of models."""

    explicit_assignments: dict[str, str] = Field(
        default_factory=dict,
        examples=[{"gpt-4o": "openai"}],
        description="Model to the server or external host that always serves it. With `discovery`, a name that does"
        " not exist yet is a warning, and the assignment applies once it is found.",
    )
    memory_overrides: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        examples=[{"llama3.1:70b": 43.0}],
        description="Model to the GiB it needs; takes precedence over every estimate.",
    )
    memory_patterns: Entries[MemoryPattern] = Field(
        default=(),
        description="Memory by name pattern, used when neither a server nor the name gives the size; the first match"
        " applies.",
    )
    default_memory_gb: float = Field(
        default=4.5, ge=0, description="GiB that a model is assumed to need when nothing else is known."
    )
    rules: Entries[ModelRule] = Field(
        default=(), description="Bounds on the context and keep_alive that requests may ask for."
    )
    aliases: dict[str, str] = Field(
        default_factory=dict, description="Name that clients use to the model they get, as in `gpt-4: llama3.1:70b`."
    )
    fallbacks: dict[str, str] = Field(
        default_factory=dict,
        description="Model to the one that answers in its place when no server can take it; reported"
        " in X-Router-Fallback.",
    )
    local_only: Entries[str] = Field(
        default=(),
        description="Model names, with * as a wildcard, that are never sent to an external host, whatever an"
        " assignment, alias or fallback says.",
    )
    cache_model_info: bool = Field(
        default=True, description="false queries each server for its models at every health check."
    )
    cache_ttl_seconds: Seconds = Field(
        default=300.0, description="Seconds after which the router queries a server's model list again."
    )
