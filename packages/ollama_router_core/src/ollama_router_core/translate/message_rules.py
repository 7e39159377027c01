"""Rules for the messages of a host's requests in its own dialect.

Unchanged messages stay the same objects, so that their original text can be sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ollama_router_core.translate.json_reader import Dropped
from ollama_router_core.translate.lenient_json import list_of, object_of

__all__ = ["MessageRules", "ruled_messages"]

_GO_ON = "(go on from where your last message ends)"
_SYSTEM = frozenset({"system", "developer"})


class MessageRules(Struct, frozen=True, kw_only=True):
    """A host's requirements for messages.

    Attributes:
        prefill: whether the last message may be the assistant's, for the model to continue.
        later_system: whether a system message may follow the first turn.
        developer: whether a system message may have the role `developer`.
        call_proof: the replacement for a call's missing proof; empty if the host requires none.
        call_thoughts: whether a message with calls must have reasoning, even if empty.
        refused: members that no message may have.
    """

    prefill: bool = True
    later_system: bool = True
    developer: bool = True
    call_proof: str = ""
    call_thoughts: bool = False
    refused: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[bytes, ...]:
        """Words, one of which every message that needs a change contains; empty if any message may need one."""
        if not self.prefill:
            return ()
        about_calls = (b"tool_calls",) if self.call_proof or self.call_thoughts else ()
        about_roles = () if self.later_system else (b"system",)
        about_roles = about_roles if self.later_system and self.developer else (*about_roles, b"developer")
        return (*about_calls, *about_roles, *(name.encode() for name in self.refused))


def ruled_messages(messages: Sequence[Any], rules: MessageRules, dropped: Dropped) -> list[Any]:
    """Return the messages with the rules applied."""
    ruled = list(messages)
    if not rules.developer:
        ruled = [_as_system(message, dropped) for message in ruled]
    if not rules.later_system:
        ruled = _without_later_system(ruled, dropped)
    if rules.refused:
        ruled = [_without(message, rules.refused, dropped) for message in ruled]
    if rules.call_proof:
        ruled = [_with_proofs(message, rules.call_proof) for message in ruled]
    if rules.call_thoughts:
        ruled = [_with_thoughts(message) for message in ruled]
    last = object_of(ruled[-1]) if ruled else {}
    if not rules.prefill and last.get("role") == "assistant":
        ruled.append({"role": "user", "content": _GO_ON})
        dropped.add("messages.prefill")
    return ruled


def _as_system(message: Any, dropped: Dropped) -> Any:
    fields = object_of(message)
    if fields.get("role") != "developer":
        return message
    dropped.add("messages.role=system")
    return {**fields, "role": "system"}


def _without_later_system(messages: list[Any], dropped: Dropped) -> list[Any]:
    """Merge leading system messages, as strict templates require, and turn later ones into user messages."""
    count = next((index for index, message in enumerate(messages) if not _is_system(message)), len(messages))
    ruled = [_as_one(messages[:count])] if count > 1 else messages[:count]
    for message in messages[count:]:
        if _is_system(message):
            fields = object_of(message)
            ruled.append({**fields, "role": "user", "content": _wrapped(fields.get("content"))})
            dropped.add("messages.role=user")
        else:
            ruled.append(message)
    return ruled


def _is_system(message: Any) -> bool:
    return object_of(message).get("role") in _SYSTEM


def _as_one(messages: list[Any]) -> dict[str, Any]:
    contents = [object_of(message).get("content") for message in messages]
    texts = [content for content in contents if isinstance(content, str)]
    if len(texts) == len(contents):
        return {**object_of(messages[0]), "content": "\n\n".join(texts)}
    return {**object_of(messages[0]), "content": [part for content in contents for part in _parts(content)]}


def _parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list_of(content)


def _wrapped(content: Any) -> Any:
    if isinstance(content, str):
        return f"<system>\n{content}\n</system>"
    return [*_parts("<system>"), *list_of(content), *_parts("</system>")]


def _without(message: Any, refused: tuple[str, ...], dropped: Dropped) -> Any:
    fields = object_of(message)
    found = [name for name in refused if name in fields]
    for name in found:
        dropped.add(f"messages.{name}")
    return {name: value for name, value in fields.items() if name not in found} if found else message


def _with_proofs(message: Any, proof: str) -> Any:
    """Add a proof to the first call of a message without proofs; hosts check only the first."""
    fields = object_of(message)
    calls = [object_of(call) for call in list_of(fields.get("tool_calls"))]
    if not calls or any(_google(call).get("thought_signature") for call in calls):
        return message
    extra = {**object_of(calls[0].get("extra_content")), "google": {**_google(calls[0]), "thought_signature": proof}}
    return {**fields, "tool_calls": [{**calls[0], "extra_content": extra}, *calls[1:]]}


def _google(call: dict[str, Any]) -> dict[str, Any]:
    return object_of(object_of(call.get("extra_content")).get("google"))


def _with_thoughts(message: Any) -> Any:
    fields = object_of(message)
    if not list_of(fields.get("tool_calls")) or isinstance(fields.get("reasoning_content"), str):
        return message
    return {**fields, "reasoning_content": ""}
