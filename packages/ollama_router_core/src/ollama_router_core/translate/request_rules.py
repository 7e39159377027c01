"""A host's rules for one model and route, applied to a request in the host's dialect."""

from __future__ import annotations

from collections.abc import KeysView
from typing import Any

from msgspec import Struct

from ollama_router_core.api.strict_json import JsonObject
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_reader import Dropped
from ollama_router_core.translate.json_text import JsonError, encode_exactly
from ollama_router_core.translate.member_rules import MemberRule, Members, apply_rules
from ollama_router_core.translate.message_rules import MessageRules, ruled_messages

__all__ = ["NO_RULES", "RequestRules", "ruled_changes", "rules_of", "with_rules"]

_MESSAGES = "messages"
_NO_MESSAGE_RULES = MessageRules()


class RequestRules(Struct, frozen=True, kw_only=True):
    """A host's rules for a request; see `rules_of`.

    `triggers` are members, one of which must be present for an effect; None if any request may be affected.
    """

    members: tuple[MemberRule, ...] = ()
    messages: MessageRules = _NO_MESSAGE_RULES
    triggers: frozenset[str] | None = frozenset()

    def concern(self, keys: KeysView[str]) -> bool:
        """Return whether a request with these members may be changed; False is certain."""
        return self.triggers is None or not self.triggers.isdisjoint(keys)

    def without(self, names: tuple[str, ...]) -> RequestRules:
        """Return the rules that also drop these members."""
        return rules_of((*self.members, MemberRule(drop=names)), self.messages) if names else self


NO_RULES = RequestRules()


def rules_of(members: tuple[MemberRule, ...], messages: MessageRules = _NO_MESSAGE_RULES) -> RequestRules:
    """Return the rules with their triggers."""
    each = [rule.triggers for rule in members]
    triggers = frozenset().union(*(names for names in each if names is not None))
    always = None in each or messages != _NO_MESSAGE_RULES
    return RequestRules(members=members, messages=messages, triggers=None if always else triggers)


def with_rules(body: dict[str, Any], rules: RequestRules, dropped: Dropped) -> dict[str, Any]:
    """Return a translated body with the rules applied."""
    members = Members(body.get)
    apply_rules(members, rules.members, dropped)
    messages = body.get(_MESSAGES)
    if isinstance(messages, list):
        members.changes[_MESSAGES] = ruled_messages(messages, rules.messages, dropped)
    merged = {**body, **members.changes}
    return {key: value for key, value in merged.items() if value is not None}


def ruled_changes(document: JsonObject, rules: RequestRules) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Return the changes to a client's own text, JSON text by key, None to remove it; and the dropped names.

    Raises:
        UntranslatableRequest: a changed value cannot be encoded.
    """
    dropped = Dropped()
    members = Members(document.get)
    apply_rules(members, rules.members, dropped)
    try:
        changes = {key: None if value is None else _text(value) for key, value in members.changes.items()}
        if (messages := _ruled_messages(document, rules.messages, dropped)) is not None:
            changes[_MESSAGES] = messages
    except JsonError as error:
        raise UntranslatableRequest(f"the body cannot be translated: {error}") from None
    return changes, dropped.names()


def _ruled_messages(document: JsonObject, rules: MessageRules, dropped: Dropped) -> str | None:
    """Return the changed text of the messages, None if unchanged; unchanged messages keep their text."""
    if rules == _NO_MESSAGE_RULES or (rules.words and not document.mentions(_MESSAGES, rules.words)):
        return None
    messages = document.get(_MESSAGES)
    if not isinstance(messages, list):
        return None
    ruled = ruled_messages(messages, rules, dropped)
    if len(ruled) == len(messages) and all(new is old for new, old in zip(ruled, messages, strict=True)):
        return None
    own = {id(message): text.decode() for message, text in zip(messages, document.elements(_MESSAGES), strict=True)}
    return f"[{','.join(own.get(id(message)) or _text(message) for message in ruled)}]"


def _text(value: Any) -> str:
    return encode_exactly(value).decode()
