"""The conversations whose prompts servers have cached, so that the next turn needs less prefill.

A server caches, per slot of a loaded model, the tokens of the last request. The router therefore tracks the last
`num_parallel` conversations of each server and model. It stores only a keyed 64-bit hash of a conversation's start,
never text; the routers of a group share the key. Servers that report cached prompt tokens (0.33.3) show which share of
a prompt a model really keeps.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import ParsedRequest

__all__ = ["HeldPrefix", "Prefixes", "conversation_of"]

_LOOKED_AT = 2048
"""Characters of each message that identify a conversation."""
_MOST_MESSAGES = 6
"""Maximum messages read to find the user's first one."""
_PART_LEARNED = 0.25
_encode = msgspec.msgpack.Encoder().encode
_MOST_PARTS = 4096


class HeldPrefix(Struct, frozen=True):
    """The server that answered a conversation's last turn, and the tokens that it may have cached."""

    server: str
    tokens: int


def conversation_of(request: ParsedRequest, user: str, key: bytes) -> int | None:
    """Return an id of a user's conversation with a model, equal in every turn, as clients resend all turns.

    It hashes everything up to the user's first message under `key`, without which texts cannot be guessed from it.
    None for a request that is no conversation.
    """
    document = request.document
    if document is None:
        return None
    messages = document.first_of("messages", _MOST_MESSAGES)
    if messages is None:
        return None
    start: list[Any] = [user, request.route.model, _text(document.get("system"))]
    for message in messages:
        if type(message) is not dict:
            return None
        start.append(_text(message.get("content")))
        if message.get("role") == "user":
            break
    try:
        text = _encode(start)
    except UnicodeEncodeError:  # half a surrogate pair, which a server may refuse
        text = repr(start).encode("utf-8", "surrogatepass")
    return int.from_bytes(sha256(key + text).digest()[:8])


def _text(content: Any) -> Any:
    if type(content) is str:
        return content[:_LOOKED_AT]
    if type(content) is list:
        parts = [part.get("text") for part in content[:_MOST_MESSAGES] if type(part) is dict]
        return tuple([part[:_LOOKED_AT] for part in parts if type(part) is str])
    return None


class Prefixes:
    """The server that last answered each conversation."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[HeldPrefix, CanonicalName]] = {}
        self._slots: dict[tuple[str, CanonicalName], list[int]] = {}
        self._parts: dict[tuple[str, CanonicalName], float] = {}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, conversation: int | None) -> HeldPrefix | None:
        """Return the server that holds a conversation, and the tokens that its cache probably contains."""
        found = None if conversation is None else self._held.get(conversation)
        if found is None:
            return None
        prefix, model = found
        part = self._parts.get((prefix.server, model)) if self._parts else None
        return prefix if part is None else HeldPrefix(prefix.server, round(prefix.tokens * part))

    def latest(self, most: int) -> list[tuple[int, HeldPrefix, CanonicalName]]:
        """Return the `most` most recent conversations, latest last."""
        found = list(self._held.items())[-most:]
        return [(conversation, prefix, model) for conversation, (prefix, model) in found]

    def was_cached(self, conversation: int, server: str, tokens: int) -> tuple[CanonicalName, float] | None:
        """Learn from a conversation's turn that the server had `tokens` of its prompt cached.

        Return the model and the cached share of the prompt, for `kept`; None if nothing was learned.
        """
        found = self._held.get(conversation)
        if found is None or found[0].server != server or not found[0].tokens:
            return None
        prefix, model = found
        part = min(1.0, tokens / prefix.tokens)
        self.kept(server, model, part)
        return model, part

    def kept(self, server: str, model: CanonicalName, part: float) -> None:
        """Learn the share of a prompt, from 0 to 1, that a server had cached."""
        known = self._parts.get((server, model), 1.0)
        if len(self._parts) >= _MOST_PARTS:
            self._parts.clear()
        self._parts[server, model] = known + (part - known) * _PART_LEARNED

    def answered(self, conversation: int, server: str, model: CanonicalName, *, tokens: int, slots: int) -> None:
        """Record a finished turn: prompt and response, `tokens` long, are in one of the model's `slots` there."""
        self.forget_conversation(conversation)
        self._held[conversation] = (HeldPrefix(server, tokens), model)
        kept = self._slots.setdefault((server, model), [])
        kept.append(conversation)
        for old in kept[:-slots]:
            del self._held[old]
        del kept[:-slots]

    def forget_conversation(self, conversation: int) -> None:
        """Delete a conversation that continued on another server."""
        found = self._held.pop(conversation, None)
        if found is not None:
            prefix, model = found
            self._slots[prefix.server, model].remove(conversation)

    def forget_model(self, server: str, model: CanonicalName) -> None:
        """Delete the conversations of a model that was unloaded or reloaded."""
        for conversation in self._slots.pop((server, model), ()):
            del self._held[conversation]
