"""Thoughts that stand in the text itself: `<think>...</think>` before the answer, and its look-alikes.

Only a tag that begins the answer counts, so that an answer about tags stays one.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from ollama_router_core.translate.conversation import Text, Thinking
from ollama_router_core.translate.replies import Event, Reply, ReplyPart, TextDelta, ThinkingDelta

__all__ = ["ThinkTags", "without_think_tags"]

_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
)
_MOST_HELD = 1000
"""Characters: a host that sends blanks for ever is no longer waited for."""
_BLANKS = re.compile(r"\s*")


class ThinkTags:
    """Splits a text that comes in pieces; holds no more than half a tag and the blanks before one."""

    __slots__ = ("_close", "_held", "_thought", "settled")

    def __init__(self) -> None:
        self.settled = False
        """Whether all that follows is text."""
        self._close = ""
        self._held = ""
        self._thought = False

    def feed(self, text: str) -> list[Event]:
        """Return what the text says so far."""
        if self.settled:
            return [TextDelta(text)]
        held = self._held + text
        if self._close:
            return self._think(held)
        if self._thought:
            return self._settle(held.lstrip())
        start = _BLANKS.match(held)
        body = held[start.end() :] if start else held
        for opening, closing in _TAGS:
            if body.startswith(opening):
                self._close = closing
                return self._think(body[len(opening) :])
        if len(held) <= _MOST_HELD and any(opening.startswith(body) for opening, _ in _TAGS):
            self._held = held
            return []
        return self._settle(held)

    def end(self) -> list[Event]:
        """Return what is held: the text, or the thoughts, ended inside a tag."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [ThinkingDelta(held)] if self._close else [TextDelta(held)]

    def pass_by(self) -> list[Event]:
        """Return what is held, and take all that follows for text: the thoughts stand elsewhere."""
        held = self.end()
        self.settled = True
        return held

    def _settle(self, text: str) -> list[Event]:
        """Begin the text; blanks between thoughts and text are neither."""
        self._held = ""
        self.settled = bool(text)
        return [TextDelta(text)] if text else []

    def _think(self, text: str) -> list[Event]:
        thought, closing, rest = text.partition(self._close)
        if closing:
            self._close, self._thought = "", True
            said = self._settle(rest.lstrip())
            return [ThinkingDelta(thought), *said] if thought else said
        half = next((size for size in range(len(self._close) - 1, 0, -1) if text.endswith(self._close[:size])), 0)
        self._held = text[len(text) - half :]
        thought = text[: len(text) - half]
        return [ThinkingDelta(thought)] if thought else []


def without_think_tags(reply: Reply) -> Reply:
    """Return the answer with such thoughts as a part of their own."""
    first = reply.parts[0] if reply.parts else None
    if not isinstance(first, Text):
        return reply
    tags = ThinkTags()
    parts: list[ReplyPart] = []
    for event in (*tags.feed(first.text), *tags.end()):
        if isinstance(event, ThinkingDelta):
            parts.append(Thinking(event.text))
        elif isinstance(event, TextDelta):
            parts.append(Text(event.text))
    if len(parts) == 1 and parts[0] == first:
        return reply
    return replace(reply, parts=(*parts, *reply.parts[1:]))
