"""Earlier reasoning in a request to an OpenAI host, in the member that the host accepts."""

from __future__ import annotations

from typing import Any

from ollama_router_core.translate.accepts import OPENAI_DEFAULT
from ollama_router_core.translate.codec import HostTraits
from ollama_router_core.translate.conversation import Thinking
from ollama_router_core.translate.json_reader import Dropped
from ollama_router_core.translate.openai.reasoning import CONTENT, DETAILS, details_of_proof, spelling_of

__all__ = ["write_thoughts"]


def write_thoughts(thoughts: list[Thinking], content: Any, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    """Return the members of an assistant's message with its reasoning; unsupported reasoning is listed as dropped.

    `content` is the message's other content.
    """
    text = "".join(part.text for part in thoughts)
    spelling = _spelling(thoughts, traits)
    if spelling == DETAILS:
        details = [entry for part in thoughts for entry in details_of_proof(part)]
        return {"reasoning": text, DETAILS: details} if text else {DETAILS: details}
    if not spelling or not text:
        dropped.add("messages.thinking")
        return {}
    if spelling == CONTENT:
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
        said = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
        return {CONTENT: [thought, *said]}
    return {spelling: text}


def _spelling(thoughts: list[Thinking], traits: HostTraits) -> str:
    """Return the member for the reasoning; empty if the host has none."""
    wanted = (OPENAI_DEFAULT if traits.accepts is None else traits.accepts).thoughts
    given = [spelling for part in thoughts if (spelling := spelling_of(part))]
    match wanted:
        case "none":
            return ""
        case "as_given" if DETAILS in given:
            return DETAILS
        case "as_given" if given:
            return given[0]
        case "as_given":
            return "reasoning_content" if traits.extensions else ""
        case field:
            return field
