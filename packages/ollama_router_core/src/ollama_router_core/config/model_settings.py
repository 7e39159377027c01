"""The settings of models: where they go, what they need, what requests for them may ask for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ollama_router_core.config.sections import Section
from ollama_router_core.config.value_types import Regex, Seconds

__all__ = ["MemoryPattern", "ModelRule", "ModelSettings"]


class MemoryPattern(Section):
    """Memory for every model whose name contains a match."""

    pattern: Regex = Field(description="Regular expression, found anywhere in the name.")
    memory_gb: float = Field(ge=0, description="GiB such a model needs.")


class ModelRule(Section):
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


class ModelSettings(Section):
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
