"""Anthropic's reasoning settings: a budget of tokens, or an effort.

Anthropic counts reasoning against `max_tokens`, which must exceed the budget; the budget is at least 1,024 tokens. With
reasoning, temperature and top_k must be unset, no tool can be forced, and a turn continued after a tool call must begin
with its signed reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.codec import HostTraits
from ollama_router_core.translate.conversation import Conversation, Role, Thinking, ThinkingLevel
from ollama_router_core.translate.json_reader import Dropped, JsonReader
from ollama_router_core.translate.signatures import own_redacted, own_signature

__all__ = ["read_thinking", "write_thinking"]

_MIN_BUDGET = 1024
_BUDGETS = MappingProxyType(
    {
        ThinkingLevel.LOW: 1024,
        ThinkingLevel.ON: 4096,
        ThinkingLevel.MEDIUM: 4096,
        ThinkingLevel.HIGH: 16384,
        ThinkingLevel.MAX: 32768,
    }
)
_EFFORTS = MappingProxyType(
    {
        "low": ThinkingLevel.LOW,
        "medium": ThinkingLevel.MEDIUM,
        "high": ThinkingLevel.HIGH,
        "xhigh": ThinkingLevel.MAX,
        "max": ThinkingLevel.MAX,
    }
)


def read_thinking(body: JsonReader, output: JsonReader | None) -> ThinkingLevel | None:
    """Parse `thinking` and `output_config.effort`; None if the request has neither.

    Raises:
        UntranslatableRequest: the type of thinking or the effort is unknown.
    """
    effort = output.text("effort") if output else None
    if effort is not None and effort not in _EFFORTS:
        raise body.wrong("output_config.effort", ", ".join(_EFFORTS))
    fields = body.child("thinking")
    if fields is None:
        return None
    match fields.text("type"):
        case "disabled":
            level = ThinkingLevel.OFF
        case "adaptive" | "between_tools":
            level = _EFFORTS[effort] if effort else ThinkingLevel.ON
        case "enabled":
            level = _level_of_budget(fields.whole("budget_tokens") or 0)
        case _:
            raise fields.wrong("type", "enabled, adaptive or disabled")
    fields.close()
    return level


def _level_of_budget(tokens: int) -> ThinkingLevel:
    levels = (ThinkingLevel.LOW, ThinkingLevel.MEDIUM, ThinkingLevel.HIGH)
    return next((level for level in levels if tokens <= _BUDGETS[level]), ThinkingLevel.MAX)


def write_thinking(conversation: Conversation, traits: HostTraits, body: dict[str, Any], dropped: Dropped) -> None:
    """Set `thinking` and `max_tokens`, and remove members that Anthropic forbids with thinking."""
    limit = conversation.sampling.max_tokens
    level = conversation.thinking
    if level is not None and level in traits.thinking:
        _write_configured(conversation, level, traits, body, dropped)
        return
    if level is None or level is ThinkingLevel.OFF:
        if level is ThinkingLevel.OFF:
            body["thinking"] = {"type": "disabled"}
        body["max_tokens"] = traits.default_max_tokens if limit is None else limit
        return
    budget = _BUDGETS[level] if limit is None else min(_BUDGETS[level], limit - 1)
    body["max_tokens"] = traits.default_max_tokens + budget if limit is None else limit
    if budget < _MIN_BUDGET or _must_not_think(conversation):
        dropped.add("think")
        return
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    for key in ("temperature", "top_k"):
        if body.pop(key, None) is not None:
            dropped.add(key)


def _write_configured(
    conversation: Conversation, level: ThinkingLevel, traits: HostTraits, body: dict[str, Any], dropped: Dropped
) -> None:
    """Set the members of the host's profile for a level; reasoning is limited only by `max_tokens`."""
    limit = conversation.sampling.max_tokens
    thinks = level is not ThinkingLevel.OFF
    body["max_tokens"] = traits.default_max_tokens + thinks * _BUDGETS.get(level, 0) if limit is None else limit
    configured = {} if thinks and _is_forced(conversation) else traits.thinking[level]
    if not configured:
        dropped.add("think")
    body.update({name: dict(value) if isinstance(value, Mapping) else value for name, value in configured.items()})


def _is_forced(conversation: Conversation) -> bool:
    choice = conversation.tool_choice
    return choice is not None and choice.mode in {"required", "named"} and bool(conversation.tools)


def _must_not_think(conversation: Conversation) -> bool:
    if _is_forced(conversation):
        return True
    messages = conversation.messages
    if not messages or messages[-1].role is not Role.TOOL:
        return False
    turn = next((message for message in reversed(messages) if message.role is Role.ASSISTANT), None)
    if turn is None or not turn.parts:
        return False
    first = turn.parts[0]
    if not isinstance(first, Thinking):
        return True
    return not (own_signature(first.signature, Family.ANTHROPIC) or own_redacted(first.signature))
