"""Host profiles as data: the lines of shipped profiles, and the operator's replacements."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from ollama_router_core.api.version_patterns import LONGEST_PATTERN, is_version_pattern
from ollama_router_core.config.sections import Section
from ollama_router_core.config.value_types import Entries, FieldName, FieldValue, matching
from ollama_router_core.config.words import Words
from ollama_router_core.config.yaml_document import PlainLoader
from ollama_router_core.errors import ConfigError

__all__ = [
    "Bounds",
    "CallIdRule",
    "HostProfile",
    "ProfileLine",
    "ProfileName",
    "ProfileSettings",
    "Takes",
    "Thinking",
    "parse_addresses",
    "parse_profile",
]

ProfileName = Literal[
    "none", "anthropic", "azure", "azure-models", "bedrock", "deepseek", "gemini", "github-models", "groq", "litellm",
    "llama.cpp", "lm-studio", "localai", "mistral", "ollama", "ollama.com", "openai", "openrouter", "sglang", "tgi",
    "together", "vllm", "xai",
]  # fmt: skip
RouteName = Literal[
    "openai_chat", "openai_completions", "openai_embeddings", "openai_responses", "anthropic_messages", "ollama_chat",
    "ollama_generate", "ollama_embed", "ollama_embeddings",
]  # fmt: skip
Effort = Literal["disabled", "enabled", "low", "medium", "high", "max"]
Scalar = str | bool | int | float | None
Thinking = dict[Effort, dict[str, Any]]
"""Reasoning effort to the request members that set it; empty if they do not exist."""

_MEMBER = re.compile(r"[A-Za-z0-9_]{1,64}(?:\.[A-Za-z0-9_]{1,64}){0,3}", re.ASCII)
_DATE = re.compile(r"20\d\d-[01]\d-[0-3]\d", re.ASCII)


def _pattern(text: str) -> str:
    if not is_version_pattern(text):
        raise ValueError(f"expected a pattern of at most {LONGEST_PATTERN} characters, such as gpt-{{5..}}*")
    return text


ModelPattern = Annotated[str, AfterValidator(_pattern), Words("a pattern such as `gpt-{5..}*`")]
Member = Annotated[
    str,
    matching(_MEMBER, "the name of a member such as `temperature`, or a dotted one such as `thinking.type`"),
    Words("the name of a member"),
]


Number = Annotated[int | float, Words("a number")]


class Bounds(Section):
    """The bounds of a number."""

    min: Number | None = Field(default=None, description="Smaller values become this.")
    max: Number | None = Field(default=None, description="Larger values become this.")


class CallIdRule(Section):
    """The ids of tool calls that a host accepts."""

    alphabet: Literal["any", "word", "alphanumeric"] = Field(
        default="any", description="`word` is letters, digits, - and _; `alphanumeric` is letters and digits."
    )
    longest: Annotated[int, Field(ge=1, le=1024)] = Field(default=256, description="Most characters.")
    exact: bool = Field(default=False, description="Whether an id must be exactly that long.")
    spares_kimi: bool = Field(default=False, description="Whether ids of Kimi's models are left alone.")


class Takes(Section):
    """What a host accepts in a conversation; null leaves it to earlier lines or to the dialect's default."""

    later_system: Literal["kept", "folded", "wrapped"] | None = Field(
        default=None,
        description="A system message after the first turn: kept, folded into the first one, or wrapped into the"
        " user's turn.",
    )
    developer: bool | None = Field(default=None, description="Whether a system message may have the role `developer`.")
    prefill: bool | None = Field(
        default=None, description="Whether the last message may be the assistant's, for the model to continue."
    )
    image_types: Entries[str] | None = Field(default=None, description="Media types of images.")
    image_addresses: bool | None = Field(default=None, description="Whether it fetches images by address.")
    file_types: Entries[str] | None = Field(default=None, description="Media types of files besides plain text.")
    file_addresses: bool | None = Field(default=None, description="Whether it fetches files by address.")
    result_images: bool | None = Field(default=None, description="Whether a tool result may contain images.")
    result_files: bool | None = Field(default=None, description="Whether a tool result may contain files.")
    call_ids: CallIdRule | None = Field(default=None, description="Accepted ids of tool calls.")
    call_proof: str | None = Field(
        default=None, description="Replacement for a missing `thought_signature` of a tool call."
    )
    call_thoughts: bool | None = Field(
        default=None, description="Whether a message with tool calls must have `reasoning_content`, even if empty."
    )
    refused_in_messages: Entries[Member] | None = Field(
        default=None, description="Members that no message may have, such as `name`."
    )
    thoughts: Literal["none", "as_given", "reasoning_content", "reasoning"] | None = Field(
        default=None, description="The member in which earlier reasoning is sent back."
    )
    members: Entries[Literal["user", "safety_identifier", "prompt_cache_key", "service_tier"]] | None = Field(
        default=None, description="Optional members of an OpenAI request."
    )
    thinking: Thinking | None = Field(
        default=None,
        description="Reasoning effort (disabled, enabled, low, medium, high, max), and the members that set it.",
    )
    tools_on: Literal["openai_responses"] | None = Field(
        default=None,
        description="The route for translated requests with tools, if the usual one accepts no reasoning effort with"
        " them.",
    )
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        default=None, description="Name of the output limit."
    )
    default_max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Output limit for an Anthropic API when the client sets none."
    )
    extensions: bool | None = Field(default=None, description="Whether it accepts top_k, min_p and repeat_penalty.")
    responses: bool | None = Field(default=None, description="Whether it has `/v1/responses` itself.")
    schemas: bool | None = Field(default=None, description="Whether it enforces a schema.")
    stream_usage: bool | None = Field(default=None, description="Whether it accepts `stream_options.include_usage`.")


class ProfileLine(Section):
    """One fact about a host."""

    models: Entries[ModelPattern] = Field(
        default=(), examples=[["gpt-{5..}*"]], description="The host's names of models; empty means all."
    )
    unless: Entries[ModelPattern] = Field(default=(), description="Models that it excludes.")
    routes: Entries[RouteName] = Field(
        default=(), examples=[["openai_chat"]], description="Routes of the host; empty means all."
    )
    when: dict[Member, bool | list[Scalar]] = Field(
        default_factory=dict,
        description="Members that must be present (true), absent (false), or have one of the listed values.",
    )
    rename: dict[Member, Member] = Field(default_factory=dict, description="Members to send under another name.")
    drop: Entries[Member] = Field(default=(), examples=[["seed"]], description="Members to leave out.")
    replace: dict[Member, dict[str, Scalar]] = Field(
        default_factory=dict, description="Values to replace; null removes the member."
    )
    clamp: dict[Member, Bounds] = Field(default_factory=dict, description="Bounds of numbers.")
    set: dict[Member, Any] = Field(default_factory=dict, description="Members that always have this value.")
    default: dict[Member, Any] = Field(default_factory=dict, description="Members to add where they are missing.")
    takes: Takes = Field(default_factory=Takes, description="What the host accepts in a conversation.")
    headers: dict[FieldName, FieldValue] = Field(
        default_factory=dict,
        description="Header fields that a request must have; a client's own field takes precedence.",
    )
    retry: Entries[Annotated[int, Field(ge=400, le=599)]] | None = Field(
        default=None, description="Statuses after which the same request may be sent again."
    )
    source: str | None = Field(default=None, description="The page it was read from.")
    read: Annotated[str, matching(_DATE, "a date such as 2026-11-29"), Words("a date")] | None = Field(
        default=None, description="When it was read."
    )


class ProfileSettings(Section):
    """A host's profile and the changes to it. A plain text is the profile's name."""

    base: ProfileName | None = Field(
        default=None, description="The shipped profile; null guesses it from the address, `none` is none."
    )
    without: Entries[str] = Field(default=(), description="Lines of it that do not apply to this host.")
    lines: dict[str, ProfileLine] = Field(
        default_factory=dict,
        examples=["no_seed"],
        description="Further lines by name; one with the name of a shipped line replaces it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _text_is_base(cls, values: Any) -> Any:
        return {"base": values} if isinstance(values, str) else values


class HostProfile(Section):
    """A shipped profile."""

    title: str = Field(description="The host's display name.")
    extends: ProfileName | None = Field(default=None, description="The profile whose lines come first.")
    lines: dict[str, ProfileLine] = Field(description="Its lines, by name.")


def parse_profile(name: str, text: str) -> HostProfile:
    """Parse the text of a shipped profile.

    Raises:
        ConfigError: the text is no valid profile.
    """
    try:
        return HostProfile.model_validate(yaml.load(text, Loader=PlainLoader))  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"the profile {name} cannot be read: {error}") from None


def parse_addresses(text: str) -> dict[ProfileName, tuple[str, ...]]:
    """Parse the addresses that identify profiles: profile names to hosts, domains and ports."""
    return {name: tuple(addresses) for name, addresses in yaml.safe_load(text).items()}
