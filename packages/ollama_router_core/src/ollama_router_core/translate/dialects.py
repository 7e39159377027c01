"""The dialects a conversation can be in, and which of them a host is spoken to in."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Literal, assert_never

from msgspec import Struct

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.errors import UntranslatableRequest

__all__ = ["OPENAI_TRAITS", "Dialect", "TargetTraits", "target_dialect"]


class Dialect(StrEnum):
    """One route's way to say things. The value is stable: it may stand in logs and settings."""

    OLLAMA_CHAT = "ollama_chat"
    OLLAMA_GENERATE = "ollama_generate"
    OLLAMA_EMBED = "ollama_embed"
    OLLAMA_EMBEDDINGS = "ollama_embeddings"
    OPENAI_CHAT = "openai_chat"
    OPENAI_COMPLETIONS = "openai_completions"
    OPENAI_EMBEDDINGS = "openai_embeddings"
    ANTHROPIC_MESSAGES = "anthropic_messages"

    @property
    def path(self) -> str:
        """The path of the route below a host's base address."""
        return _PATHS[self]

    @property
    def family(self) -> Family:
        """Whose API the route belongs to; errors have its shape."""
        if self.value.startswith("ollama"):
            return Family.OLLAMA
        return Family.ANTHROPIC if self is Dialect.ANTHROPIC_MESSAGES else Family.OPENAI

    @property
    def embeds(self) -> bool:
        """Whether the route turns texts into vectors instead of continuing a conversation."""
        return self in _EMBEDDING


_PATHS = MappingProxyType(
    {
        Dialect.OLLAMA_CHAT: "/api/chat",
        Dialect.OLLAMA_GENERATE: "/api/generate",
        Dialect.OLLAMA_EMBED: "/api/embed",
        Dialect.OLLAMA_EMBEDDINGS: "/api/embeddings",
        Dialect.OPENAI_CHAT: "/v1/chat/completions",
        Dialect.OPENAI_COMPLETIONS: "/v1/completions",
        Dialect.OPENAI_EMBEDDINGS: "/v1/embeddings",
        Dialect.ANTHROPIC_MESSAGES: "/v1/messages",
    }
)
_EMBEDDING = frozenset({Dialect.OLLAMA_EMBED, Dialect.OLLAMA_EMBEDDINGS, Dialect.OPENAI_EMBEDDINGS})


def target_dialect(source: Dialect, family: Family) -> Dialect:
    """The dialect in which a host of `family` is asked what a client said in `source`.

    A host of the client's own family is asked in the client's own dialect. A plain prompt becomes a conversation of
    one message, because chat models are what OpenAI and Anthropic serve.

    Raises:
        UntranslatableRequest: the family has no such route (Anthropic has no embeddings).
    """
    if source.family is family:
        return source
    match family:
        case Family.OLLAMA:
            return _OLLAMA_TARGETS.get(source, Dialect.OLLAMA_CHAT)
        case Family.OPENAI:
            return Dialect.OPENAI_EMBEDDINGS if source.embeds else Dialect.OPENAI_CHAT
        case Family.ANTHROPIC:
            if source.embeds:
                raise UntranslatableRequest("Anthropic has no embeddings; choose a model of another host")
            return Dialect.ANTHROPIC_MESSAGES
        case _:
            assert_never(family)


_OLLAMA_TARGETS = MappingProxyType(
    {Dialect.OPENAI_COMPLETIONS: Dialect.OLLAMA_GENERATE, Dialect.OPENAI_EMBEDDINGS: Dialect.OLLAMA_EMBED}
)


class TargetTraits(Struct, frozen=True, kw_only=True):
    """What a host takes beyond the common ground of its dialect.

    Attributes:
        max_tokens_key: how an OpenAI host wants the limit of the answer. OpenAI itself refuses `max_tokens` for its
            reasoning models; many look-alikes know nothing else.
        extensions: whether an OpenAI host takes `top_k`, `min_p`, `repeat_penalty` and `reasoning_content` in earlier
            messages, as vLLM and llama.cpp do and OpenAI does not.
        schemas: whether an Anthropic host keeps to the schema in `output_config.format`. Anthropic does; llama.cpp
            takes it and ignores it, so a schema for such a host is refused instead.
        default_max_tokens: tokens; Anthropic demands a limit, this one is sent when the client gave none.
    """

    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extensions: bool = False
    schemas: bool = True
    default_max_tokens: int = 4096


OPENAI_TRAITS = TargetTraits(max_tokens_key="max_completion_tokens")
"""The traits of api.openai.com itself; the defaults of `TargetTraits` suit its look-alikes."""
