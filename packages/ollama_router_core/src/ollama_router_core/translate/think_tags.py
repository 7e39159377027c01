"""Extraction of reasoning within the text: `<think>...</think>` before the response, and variants.

Only a tag at the start of the reply counts, so that a text about tags is unchanged.
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
"""Maximum buffered characters, for a host that sends endless blanks."""
_BLANKS = re.compile(r"\s*")


class ThinkTags:
    """Split a text that arrives in pieces, buffering at most a partial tag and the blanks before it."""

    __slots__ = ("_close", "_held", "_thought", "settled")

    def __init__(self) -> None:
        self.settled = False
        """Whether the rest of the reply is text."""
        self._close = ""
        self._held = ""
        self._thought = False

    def feed(self, text: str) -> list[Event]:
        """Add a piece and return the events that it completes."""
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
        """Return the buffered text, or reasoning, at the end of the reply."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [ThinkingDelta(held)] if self._close else [TextDelta(held)]

    def flush(self) -> list[Event]:
        """Return the buffered events, and treat the rest as text, as the host sends reasoning separately."""
        held = self.end()
        self.settled = True
        return held

    def _settle(self, text: str) -> list[Event]:
        """Start the text; blanks between reasoning and text are dropped."""
        self._held = ""
        self.settled = bool(text)
        return [TextDelta(text)] if text else []

    def _think(self, text: str) -> list[Event]:
        thought, closing, rest = text.partition(self._close)
        if closing:
            self._close, self._thought = "", True
            events = self._settle(rest.lstrip())
            return [ThinkingDelta(thought), *events] if thought else events
        half = next((size for size in range(len(self._close) - 1, 0, -1) if text.endswith(self._close[:size])), 0)
        self._held = text[len(text) - half :]
        thought = text[: len(text) - half]
        return [ThinkingDelta(thought)] if thought else []


def without_think_tags(reply: Reply) -> Reply:
    """Return the reply with tagged reasoning as a separate part."""
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
