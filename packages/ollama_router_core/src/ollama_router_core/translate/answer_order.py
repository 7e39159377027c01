"""Reordering of a reply's events: reasoning separate from text, and tool calls one after the other.

Hosts may interleave the pieces of several calls and text, and send a name or an id after the arguments. Clients of
other dialects allow one open call at a time, so pieces of a later call are buffered until the open one is complete.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

from ollama_router_core.translate.arguments import ArgumentsEnd
from ollama_router_core.translate.conversation import Text, Thinking, ToolCall
from ollama_router_core.translate.errors import HostFailed, StreamEventTooLarge
from ollama_router_core.translate.replies import (
    Event,
    Failed,
    Finished,
    Reply,
    ReplyPart,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingSigned,
    ToolCallDelta,
)
from ollama_router_core.translate.streaming import ended_early
from ollama_router_core.translate.think_tags import ThinkTags

__all__ = ["AnswerOrder", "ReplyCollector", "events_of_reply"]


_MOST_CALLS = 4096
"""Maximum number of calls in a reply: each is remembered until its end."""


class _Call:
    """A tool call with unsent pieces."""

    __slots__ = ("begun", "end", "id", "name", "signature", "unsent")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.signature = ""
        self.unsent: list[str] = []
        self.end = ArgumentsEnd()
        self.begun = False

    def add(self, delta: ToolCallDelta) -> None:
        self.id = self.id or delta.id
        self.name = self.name or delta.name
        self.signature = delta.signature or self.signature
        if delta.arguments and not self.end.whole:
            self.end.feed(delta.arguments)
            self.unsent.append(delta.arguments)

    @property
    def may_begin(self) -> bool:
        return self.end.whole or bool(self.id and self.unsent)

    @property
    def is_over(self) -> bool:
        return self.begun and self.end.whole


class AnswerOrder:
    """Reorder the events of one reply, buffering at most `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._tags = ThinkTags()
        self._calls: dict[int, _Call] = {}
        self._waiting: deque[Event | _Call] = deque()
        self._ids: set[str] = set()
        self._number = 0
        self._max_bytes = max_bytes
        self._room = max_bytes

    def take(self, event: Event) -> list[Event]:
        """Add an event and return the events that can be sent now.

        Raises:
            StreamEventTooLarge: the buffer limit or the number of calls is exceeded.
        """
        match event:
            case TextDelta(text=text):
                if self._tags.settled and not self._waiting:
                    return [event]
                return self._queued(self._tags.feed(text))
            case ThinkingDelta() | ThinkingSigned():
                return self._queued([*self._tags.flush(), event])
            case ToolCallDelta():
                return self._queued(self._tags.flush()) + self._take_call(event)
            case Started():
                return [event]
            case Finished() | Failed():
                return [*self._queued(self._tags.end()), *self._release(last=True), event]
            case _:
                assert_never(event)

    def _queued(self, events: list[Event]) -> list[Event]:
        if not self._waiting:
            return events
        self._waiting.extend(events)
        self._reserve(sum(map(_size, events)))
        return self._release()

    def _take_call(self, delta: ToolCallDelta) -> list[Event]:
        call = self._calls.get(delta.index)
        if call is None:
            if len(self._calls) == _MOST_CALLS:
                raise StreamEventTooLarge(f"the server's answer has more than {_MOST_CALLS} tool calls")
            call = self._calls[delta.index] = _Call()
            self._waiting.append(call)
        call.add(delta)
        self._reserve(len(delta.arguments) + 1)
        return self._release()

    def _reserve(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise StreamEventTooLarge(f"more than {self._max_bytes} bytes wait for a tool call of the server to end")

    def _release(self, *, last: bool = False) -> list[Event]:
        """Return the first buffered events, up to an incomplete call."""
        released: list[Event] = []
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, _Call):
                if last or (first.name and first.may_begin):
                    released.extend(self._deltas(first))
                if not last and (len(self._waiting) == 1 or not first.is_over):
                    break
                self._number += 1
            else:
                released.append(first)
            self._waiting.popleft()
        if not self._waiting or (len(self._waiting) == 1 and released):
            self._room = self._max_bytes
        return released

    def _deltas(self, call: _Call) -> list[Event]:
        arguments = "".join(call.unsent)
        call.unsent.clear()
        signature, call.signature = call.signature, ""
        if call.begun:
            late = arguments or signature
            return [ToolCallDelta(self._number, arguments=arguments, signature=signature)] if late else []
        call.begun = True
        given_id = "" if call.id in self._ids else call.id
        self._ids.add(call.id)
        return [ToolCallDelta(self._number, given_id, call.name, arguments, signature)]


def _size(event: Event) -> int:
    return len(event.text) + 1 if isinstance(event, TextDelta | ThinkingDelta) else 1


class ReplyCollector:
    """Assemble a streamed reply for a client that requested no stream.

    Attributes:
        reply: the whole reply, None until its end.
    """

    def __init__(self, max_bytes: int) -> None:
        self.reply: Reply | None = None
        self._order = AnswerOrder(max_bytes + 1)
        self._parts: list[ReplyPart] = []
        self._pieces: list[str] = []

    def add(self, event: Event) -> None:
        """Add the reader's next event.

        Raises:
            HostFailed: the host reported an error within its reply.
        """
        for ordered in () if self.reply else self._order.take(event):
            self._collect(ordered)

    def whole(self) -> Reply:
        """Return the whole reply.

        Raises:
            UpstreamIncomplete: the reply is incomplete.
        """
        if self.reply is None:
            raise ended_early()
        return self.reply

    def _collect(self, event: Event) -> None:
        match event:
            case TextDelta(text=text):
                self._continue(Text, text)
            case ThinkingDelta(text=text):
                self._continue(Thinking, text)
            case ThinkingSigned(signature=signature):
                self._sign(signature)
            case ToolCallDelta(arguments=arguments):
                if event.name or not isinstance(self._parts[-1] if self._parts else None, ToolCall):
                    self._close()
                    self._parts.append(ToolCall(event.id, event.name, "", event.signature))
                self._pieces.append(arguments)
            case Started():
                pass
            case Finished():
                self._close()
                self.reply = Reply(
                    parts=tuple(self._parts),
                    finish=event.finish,
                    stop_sequence=event.stop_sequence,
                    usage=event.usage,
                    timings=event.timings,
                )
            case Failed(error=error):
                raise HostFailed(error)
            case _:
                assert_never(event)

    def _continue(self, kind: type[Text | Thinking], text: str) -> None:
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, kind) or (isinstance(last, Thinking) and last.signature):
            self._close()
            self._parts.append(kind(""))
        self._pieces.append(text)

    def _sign(self, signature: str) -> None:
        self._close()
        last = self._parts[-1] if self._parts else None
        if isinstance(last, Thinking) and not last.signature:
            self._parts[-1] = Thinking(last.text, signature)
        else:
            self._parts.append(Thinking("", signature))

    def _close(self) -> None:
        """Complete the last part with the collected pieces."""
        if not self._pieces:
            return
        joined, last = "".join(self._pieces), self._parts[-1]
        self._pieces = []
        match last:
            case Text():
                self._parts[-1] = Text(joined)
            case Thinking(signature=signature):
                self._parts[-1] = Thinking(joined, signature)
            case ToolCall():
                self._parts[-1] = ToolCall(last.id, last.name, joined, last.signature)
            case _:
                assert_never(last)


def events_of_reply(reply: Reply) -> list[Event]:
    """Return a whole reply as stream events, for a client that requested a stream."""
    events: list[Event] = [Started(reply.usage.input_tokens if reply.usage else 0)]
    calls = 0
    for part in reply.parts:
        events.extend(_events_of_part(part, calls))
        calls += isinstance(part, ToolCall)
    end = Finished(reply.finish, reply.stop_sequence, reply.usage, reply.timings)
    return [*events, end]


def _events_of_part(part: ReplyPart, number: int) -> list[Event]:
    match part:
        case Text(text=text):
            return [TextDelta(text)] if text else []
        case Thinking(text=text, signature=signature):
            thought: list[Event] = [ThinkingDelta(text)] if text else []
            return [*thought, ThinkingSigned(signature)] if signature else thought
        case ToolCall():
            return [ToolCallDelta(number, part.id, part.name, part.arguments, part.signature)]
        case _:
            assert_never(part)
