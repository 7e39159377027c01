"""What OpenAI's own servers take of a conversation, from its shipped profile."""

from __future__ import annotations

from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config import ExternalHost
from ollama_router_core.outbound.host_profiles import profile_of
from ollama_router_core.translate.accepts import Accepts
from ollama_router_core.translate.openai.codec import OPENAI_CHAT

__all__ = ["OPENAI_OWN"]


def _accepts() -> Accepts:
    facts = profile_of("paid", ExternalHost(host="api.openai.com"), shipped_profiles()).facts(OPENAI_CHAT, "gpt-4.1")
    assert facts.traits.accepts is not None
    return facts.traits.accepts


OPENAI_OWN = _accepts()
