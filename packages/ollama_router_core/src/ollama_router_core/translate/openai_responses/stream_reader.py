"""The events of a streamed response, read."""

from __future__ import annotations

from typing import Any

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.errors import UntranslatableReply
from ollama_router_core.translate.host_errors import failed_event
from ollama_router_core.translate.lenient_json import object_of, reply_object, text_of
from ollama_router_core.translate.openai_responses.read_items import PARAGRAPH
from ollama_router_core.translate.openai_responses.replies import read_finish, read_usage
from ollama_router_core.translate.replies import (
    Event,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingSigned,
    ToolCallDelta,
)
from ollama_router_core.translate.signatures import read_signature
from ollama_router_core.translate.streaming import ended_early

__all__ = ["ResponsesReader"]


class ResponsesReader:
    """Reads the events of a response. The end is the event that wraps the finished response, and nothing else."""

    def __init__(self) -> None:
        self._call = -1
        self._call_item: Any = None
        self._has_arguments = False

    def read(self, payload: bytes) -> list[Event]:
        """See `StreamReader.read`."""
        if payload == b"[DONE]":  # some look-alikes say so, after the end
            return []
        event = reply_object(payload)
        match event.get("type"):
            case "response.output_text.delta" | "response.refusal.delta":
                return _text(event)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                return _thinking(event)
            case "response.function_call_arguments.delta":
                return self._read_arguments(event, text_of(event.get("delta")))
            case _:
                return self._read_edge(event)

    def _read_edge(self, event: dict[str, Any]) -> list[Event]:
        """Read a beginning or an end: of the answer, of an item, of a part of a summary."""
        events: list[Event] = []
        response = object_of(event.get("response"))
        match event.get("type"):
            case "response.output_item.added":
                events = self._read_added(event)
            case "response.output_item.done":
                events = self._read_done(event)
            case "response.reasoning_summary_part.added" if event.get("summary_index"):
                events = [ThinkingDelta(PARAGRAPH)]
            case "response.created":
                events = [Started()]
            case "response.completed" | "response.incomplete":
                events = [self._finished(response)]
            case "response.failed":
                events = [failed_event(response)]
            case "error":
                events = [failed_event(event)]
            case _:
                # What repeats the deltas, and what OpenAI may add one day.
                pass
        return events

    def _read_added(self, event: dict[str, Any]) -> list[Event]:
        item = object_of(event.get("item"))
        if item.get("type") != "function_call":
            return []
        self._call += 1
        self._call_item = event.get("output_index")
        arguments = text_of(item.get("arguments"))
        self._has_arguments = bool(arguments)
        return [ToolCallDelta(self._call, text_of(item.get("call_id")), text_of(item.get("name")), arguments)]

    def _read_arguments(self, event: dict[str, Any], text: str) -> list[Event]:
        if self._call < 0 or not text:
            return []
        if event.get("output_index") != self._call_item:
            raise UntranslatableReply("the server went back to an earlier tool call")
        self._has_arguments = True
        return [ToolCallDelta(self._call, arguments=text)]

    def _read_done(self, event: dict[str, Any]) -> list[Event]:
        """Read the end of an item: the proof of its thinking, or the arguments of a call that came without deltas."""
        item = object_of(event.get("item"))
        match item.get("type"):
            case "reasoning":
                proof = read_signature(text_of(item.get("encrypted_content")), Family.OPENAI_RESPONSES)
                return [ThinkingSigned(proof)] if proof else []
            case "function_call":
                return [] if self._has_arguments else self._read_arguments(event, text_of(item.get("arguments")))
            case _:
                return []

    def _finished(self, response: dict[str, Any]) -> Finished:
        finish = read_finish(response, called=self._call >= 0)
        return Finished(finish, usage=read_usage(response.get("usage")))

    def end(self) -> list[Event]:
        """See `StreamReader.end`: without its last event the answer is not complete."""
        raise ended_early()


def _text(event: dict[str, Any]) -> list[Event]:
    text = text_of(event.get("delta"))
    return [TextDelta(text)] if text else []


def _thinking(event: dict[str, Any]) -> list[Event]:
    text = text_of(event.get("delta"))
    return [ThinkingDelta(text)] if text else []
