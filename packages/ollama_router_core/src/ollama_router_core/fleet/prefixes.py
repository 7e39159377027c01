"""Which conversations' prompts servers still hold, so that the next turn need not be read from its beginning.

A server keeps, for each slot of a loaded model, the tokens of what ran there last. So the last `num_parallel`
conversations of a server and model are remembered; there is nothing to gain from more. Of a conversation only a
64-bit hash of its start is kept, under a key that routers of one group have in common: never text.
Servers that tell how much of a prompt came out of their cache (0.33.3) teach how much of it a model really keeps there.
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
"""Characters of each message that tell conversations apart."""
_MOST_MESSAGES = 6
"""Messages looked at where the user's first one comes later."""
_PART_LEARNED = 0.25
_encode = msgspec.msgpack.Encoder().encode
_MOST_PARTS = 4096


class HeldPrefix(Struct, frozen=True):
    """The server that answered a conversation's last turn and how many tokens of it it may still hold."""

    server: str
    tokens: int


def conversation_of(request: ParsedRequest, user: str, key: bytes) -> int | None:
    """Return a number for a user's conversation with a model, the same in every turn: clients send all turns again.

    It covers everything up to the user's first message, under a `key`: who does not have it cannot find a
    text by trying. None for what is not a conversation.
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
    """Where conversations were answered last."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[HeldPrefix, CanonicalName]] = {}
        self._slots: dict[tuple[str, CanonicalName], list[int]] = {}
        self._parts: dict[tuple[str, CanonicalName], float] = {}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, conversation: int | None) -> HeldPrefix | None:
        """Return the server that holds a conversation, and how many tokens of it are likely to be in its cache."""
        found = None if conversation is None else self._held.get(conversation)
        if found is None:
            return None
        prefix, model = found
        part = self._parts.get((prefix.server, model)) if self._parts else None
        return prefix if part is None else HeldPrefix(prefix.server, round(prefix.tokens * part))

    def latest(self, most: int) -> list[tuple[int, HeldPrefix, CanonicalName]]:
        """Return the conversations that were answered last, at most so many, the latest last."""
        found = list(self._held.items())[-most:]
        return [(conversation, prefix, model) for conversation, (prefix, model) in found]

    def was_cached(self, conversation: int, server: str, tokens: int) -> tuple[CanonicalName, float] | None:
        """Learn from the next turn of a conversation, of whose prompt the server found `tokens` in its cache.

        Returns which part of a prompt of which model that was, for `kept`; None where nothing was learned.
        """
        found = self._held.get(conversation)
        if found is None or found[0].server != server or not found[0].tokens:
            return None
        prefix, model = found
        part = min(1.0, tokens / prefix.tokens)
        self.kept(server, model, part)
        return model, part

    def kept(self, server: str, model: CanonicalName, part: float) -> None:
        """Learn which part of a prompt, from 0 to 1, a server still had in its cache."""
        known = self._parts.get((server, model), 1.0)
        if len(self._parts) >= _MOST_PARTS:
            self._parts.clear()
        self._parts[server, model] = known + (part - known) * _PART_LEARNED

    def answered(self, conversation: int, server: str, model: CanonicalName, *, tokens: int, slots: int) -> None:
        """Note a finished turn: prompt and answer are `tokens` long and in one of the model's `slots` there."""
        self.forget_conversation(conversation)
        self._held[conversation] = (HeldPrefix(server, tokens), model)
        kept = self._slots.setdefault((server, model), [])
        kept.append(conversation)
        for old in kept[:-slots]:
            del self._held[old]
        del kept[:-slots]

    def forget_conversation(self, conversation: int) -> None:
        """Forget a conversation that went on elsewhere."""
        found = self._held.pop(conversation, None)
        if found is not None:
            prefix, model = found
            self._slots[prefix.server, model].remove(conversation)

    def forget_model(self, server: str, model: CanonicalName) -> None:
        """Forget the conversations of a model that was unloaded or reloaded."""
        for conversation in self._slots.pop((server, model), ()):
            del self._held[conversation]
