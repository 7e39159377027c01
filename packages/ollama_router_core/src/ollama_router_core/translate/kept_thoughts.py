"""A store of reasoning that clients cannot send back, for the turn in which its host requires it.

Anthropic continues reasoning after a tool call only with its signed reasoning, Gemini rejects a call without its proof,
DeepSeek one without its reasoning. Clients of other dialects drop them. So the reasoning before a call is stored by
user and call id, in memory and within limits; a lost entry is as if there were no store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import assert_never

from msgspec.structs import replace

from ollama_router_core.translate.call_ids import is_unique, original_id
from ollama_router_core.translate.confidential import Confidential
from ollama_router_core.translate.conversation import Conversation, Message, Part, Role, Thinking, ToolCall
from ollama_router_core.translate.replies import (
    Event,
    Failed,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingSigned,
    ToolCallDelta,
)

__all__ = ["KeptThoughts", "Recall", "ThoughtsCollector", "TurnThoughts", "with_thoughts"]

_USER_CHARS = 2 * 1024 * 1024
_ALL_CHARS = 32 * 1024 * 1024
_LONGEST = 256 * 1024
_ENTRY_CHARS = 256
"""Overhead of an entry besides its texts."""


class TurnThoughts(Confidential, frozen=True):
    """The reasoning of one reply with tool calls: thoughts with their proofs, and pairs of call id and proof."""

    thoughts: tuple[Thinking, ...]
    calls: tuple[tuple[str, str], ...]

    @property
    def is_wanted(self) -> bool:
        """Whether a host may require it back, and the first call's id is unique."""
        proven = any(part.signature for part in self.thoughts) or any(signature for _, signature in self.calls)
        return proven and bool(self.calls) and is_unique(self.calls[0][0])

    @property
    def size(self) -> int:
        """The size in characters."""
        thoughts = sum(len(part.text) + len(part.signature) for part in self.thoughts)
        return thoughts + sum(len(given) + len(signature) + _ENTRY_CHARS for given, signature in self.calls)


Recall = Callable[[str], TurnThoughts | None]
"""Returns a user's stored reasoning by call id."""


class KeptThoughts:
    """Store the reasoning of each user's latest calls; the oldest is evicted first."""

    def __init__(self, *, user_chars: int = _USER_CHARS, all_chars: int = _ALL_CHARS) -> None:
        self._users: OrderedDict[int | None, OrderedDict[str, TurnThoughts]] = OrderedDict()
        self._sizes: dict[int | None, int] = {}
        self._user_chars = user_chars
        self._all_chars = all_chars
        self._size = 0

    def keep(self, user: int | None, turn: TurnThoughts) -> None:
        """Store the reasoning of a user's reply; `user` is None without authentication."""
        if not turn.is_wanted or turn.size > _LONGEST:
            return
        first = original_id(turn.calls[0][0])
        self._forget(user, first)
        kept = self._users.setdefault(user, OrderedDict())
        self._users.move_to_end(user)
        kept[first] = turn
        self._count(user, turn.size)
        while self._sizes.get(user, 0) > self._user_chars:
            self._forget(user, next(iter(kept)))
        while self._size > self._all_chars:
            oldest = next(iter(self._users))
            self._forget(oldest, next(iter(self._users[oldest])))

    def recall(self, user: int | None) -> Recall:
        """Return a look-up of a user's reasoning by the id of a reply's first call."""
        kept = self._users.get(user)

        def recalled(given: str) -> TurnThoughts | None:
            return None if kept is None else kept.get(original_id(given))

        return recalled

    def _forget(self, user: int | None, first: str) -> None:
        kept = self._users.get(user)
        turn = None if kept is None else kept.pop(first, None)
        if turn is None:
            return
        self._count(user, -turn.size)
        if not kept:
            del self._users[user], self._sizes[user]

    def _count(self, user: int | None, size: int) -> None:
        self._sizes[user] = self._sizes.get(user, 0) + size
        self._size += size


class ThoughtsCollector:
    """Collect a reply's reasoning and calls from its ordered events; `make_id` creates a missing call id."""

    def __init__(self, make_id: Callable[[int], str]) -> None:
        self._make_id = make_id
        self._thoughts: list[Thinking] = []
        self._pieces: list[str] = []
        self._calls: dict[int, tuple[str, str]] = {}
        self._room = _LONGEST

    def add(self, event: Event) -> None:
        """Add the next event."""
        match event:
            case ThinkingDelta(text=text):
                self._reserve(len(text))
                if self._room > 0:
                    self._pieces.append(text)
            case ThinkingSigned(signature=signature):
                self._reserve(len(signature))
                if self._room > 0:
                    self._thoughts.append(Thinking("".join(self._pieces), signature))
                self._pieces = []
            case ToolCallDelta(index=index, id=given_id, signature=signature):
                if index not in self._calls:
                    self._reserve(len(given_id) + len(signature) + _ENTRY_CHARS)
                known_id, known_proof = self._calls.get(index, (given_id or self._make_id(index), ""))
                if self._room > 0:
                    self._calls[index] = (known_id, signature or known_proof)
            case TextDelta() | Started() | Finished() | Failed():
                pass
            case _:
                assert_never(event)

    def turn(self) -> TurnThoughts | None:
        """Return the collected reasoning; None if it is too large or no host can require it back."""
        unsigned = "".join(self._pieces)
        thoughts = (*self._thoughts, Thinking(unsigned)) if unsigned else tuple(self._thoughts)
        turn = TurnThoughts(thoughts, tuple(self._calls.values()))
        return turn if self._room > 0 and turn.is_wanted else None

    def _reserve(self, size: int) -> None:
        self._room -= size + 1


def with_thoughts(conversation: Conversation, recall: Recall) -> Conversation:
    """Return the conversation with the stored reasoning that the client did not send back."""
    return replace(conversation, messages=tuple(_recalled(message, recall) for message in conversation.messages))


def _recalled(message: Message, recall: Recall) -> Message:
    if message.role is not Role.ASSISTANT:
        return message
    first = next((part for part in message.parts if isinstance(part, ToolCall)), None)
    turn = None if first is None else recall(first.id)
    if turn is None:
        return message
    proofs = {original_id(given): signature for given, signature in turn.calls}
    parts = [_with_proof(part, proofs) for part in message.parts]
    if not any(isinstance(part, Thinking) and part.signature for part in parts):
        parts = [*turn.thoughts, *(part for part in parts if not isinstance(part, Thinking))]
    return Message(message.role, tuple(parts))


def _with_proof(part: Part, proofs: dict[str, str]) -> Part:
    if not isinstance(part, ToolCall) or part.signature:
        return part
    proof = proofs.get(original_id(part.id), "")
    return replace(part, signature=proof) if proof else part
