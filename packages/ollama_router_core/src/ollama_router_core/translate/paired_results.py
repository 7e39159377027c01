"""Pairing of calls and results, which most hosts require: an interrupted turn leaves unpaired ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from ollama_router_core.translate.conversation import Message, Part, Role, Text, ToolCall, ToolResult

__all__ = ["paired"]

_NO_RESULT = Text("[no result: the call was interrupted]")


def paired(messages: Iterable[Message]) -> list[Message]:
    """Return the messages with each result right after its call, and a note for a missing result.

    A call at the end of the conversation may lack its result. A result without a call becomes a user message.
    """
    ordered: list[Message] = []
    turn = _Turn()
    for message in messages:
        if message.role is Role.TOOL:
            turn.add_results(message)
        elif message.role is Role.ASSISTANT:
            ordered.extend(turn.close())
            turn = _Turn(message)
        else:
            turn.others.append(message)
    ordered.extend(turn.close(last=True))
    return ordered


class _Turn:
    """An assistant's message and the messages up to the next one."""

    def __init__(self, message: Message | None = None) -> None:
        self._message = message
        parts = () if message is None else message.parts
        self._results: dict[str, ToolResult | None] = {part.id: None for part in parts if isinstance(part, ToolCall)}
        self.others: list[Message] = []

    def add_results(self, message: Message) -> None:
        for part in message.parts:
            if not isinstance(part, ToolResult):
                continue
            if part.call_id not in self._results:
                self.others.append(Message(Role.USER, tuple(_as_user_parts(part))))
                continue
            known = self._results[part.call_id]
            self._results[part.call_id] = part if known is None else replace(known, parts=(*known.parts, *part.parts))

    def close(self, *, last: bool = False) -> Iterator[Message]:
        if self._message is not None:
            yield self._message
        open_end = last and not self.others and not any(self._results.values())
        for call_id, result in self._results.items():
            if result is not None:
                yield Message(Role.TOOL, (result,))
            elif not open_end:
                yield Message(Role.TOOL, (ToolResult(call_id, (_NO_RESULT,), is_error=True),))
        yield from self.others


def _as_user_parts(result: ToolResult) -> list[Part]:
    return [Text(f"[result of call {result.call_id}:]"), *result.parts]
