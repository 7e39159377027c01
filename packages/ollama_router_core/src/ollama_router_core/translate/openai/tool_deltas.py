"""Assignment of a stream's tool deltas to calls, for OpenAI-compatible hosts.

OpenAI numbers calls by `index` and sends id and name once, at the start. Other hosts omit the index or send 0 for all
calls, repeat id and name in each delta, send a new id with each delta, or send either late.
"""

from __future__ import annotations

from typing import Any

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.arguments import ArgumentsEnd, reply_arguments_text
from ollama_router_core.translate.lenient_json import object_of, text_of
from ollama_router_core.translate.replies import ToolCallDelta
from ollama_router_core.translate.signatures import read_signature

__all__ = ["ToolDeltas", "call_signature"]


def call_signature(entry: dict[str, Any]) -> str:
    """Return Gemini's signature of the reasoning behind a call, which Gemini requires back with the call."""
    google = object_of(object_of(entry.get("extra_content")).get("google"))
    return read_signature(text_of(google.get("thought_signature")), Family.OPENAI)


class _Known:
    """A started call."""

    __slots__ = ("end", "id", "index", "name", "number")

    def __init__(self, number: int, index: int | None) -> None:
        self.number = number
        self.index = index
        self.id = ""
        self.name = ""
        self.end = ArgumentsEnd()


def _index(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < len("10000"):
        return int(value)
    return int(value) if type(value) in {int, float} and value == value // 1 else None


class ToolDeltas:
    """Number the calls of one reply in the order of their start."""

    def __init__(self) -> None:
        self._calls: list[_Known] = []
        self._by_id: dict[str, _Known] = {}
        self._by_index: dict[int | None, _Known] = {}

    @property
    def any(self) -> bool:
        """Whether a call has started."""
        return bool(self._calls)

    def read(self, entry: dict[str, Any]) -> ToolCallDelta:
        """Parse an entry of `tool_calls`."""
        function = object_of(entry.get("function"))
        index = _index(entry.get("index"))
        given_id, name = text_of(entry.get("id")), text_of(function.get("name"))
        arguments = reply_arguments_text(function.get("arguments"))
        call = self._find(index, given_id, name, arguments) or self._begin(index)
        if given_id and not call.id:
            call.id = given_id
            self._by_id.setdefault(given_id, call)
        call.name = call.name or name
        call.end.feed(arguments)
        self._by_index[index] = self._by_index[None] = call
        return ToolCallDelta(call.number, given_id, name, arguments, call_signature(entry))

    def _begin(self, index: int | None) -> _Known:
        call = _Known(len(self._calls), index)
        self._calls.append(call)
        return call

    def _find(self, index: int | None, given_id: str, name: str, arguments: str) -> _Known | None:
        """Return the call that the delta continues; None if it starts another one."""
        known = self._by_id.get(given_id)
        if known is not None and index in {None, known.index}:
            return known
        last = self._by_index.get(index)
        if last is None:
            return None
        if given_id and last.id and given_id != last.id:
            # A new id without a name is not a new call.
            return last if not name and not last.end.whole else None
        if not name or not last.name or (given_id and given_id == last.id):
            return last
        if name != last.name:
            return None
        return None if last.end.whole and arguments.strip() else last
