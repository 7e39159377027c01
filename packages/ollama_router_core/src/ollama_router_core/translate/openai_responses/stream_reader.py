"""Parsing of the events of a streamed response."""

from __future__ import annotations

from typing import Any

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.arguments import reply_arguments_text
from ollama_router_core.translate.host_errors import failed_event, is_error_body
from ollama_router_core.translate.lenient_json import object_of, reply_object, text_of
from ollama_router_core.translate.openai.replies import read_usage
from ollama_router_core.translate.openai_responses.read_items import PARAGRAPH
from ollama_router_core.translate.openai_responses.replies import read_status
from ollama_router_core.translate.replies import Event, Finished, Started, ThinkingDelta, ToolCallDelta
from ollama_router_core.translate.signatures import read_signature
from ollama_router_core.translate.streaming import (
    SAYS_NOTHING,
    ended_early,
    signature_events,
    text_events,
    thinking_events,
)

__all__ = ["ResponsesReader"]


class ResponsesReader:
    """Parse the events of a response. Only the event with the finished response is an end."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}
        self._with_arguments: set[int] = set()

    def read(self, payload: bytes) -> list[Event]:
        """See `StreamReader.read`."""
        if payload[:1] != b"{" and payload.strip() in SAYS_NOTHING:
            return []
        event = reply_object(payload)
        match event.get("type"):
            case "response.output_text.delta" | "response.refusal.delta":
                return text_events(event.get("delta"))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                return thinking_events(event.get("delta"))
            case "response.function_call_arguments.delta":
                return self._read_arguments(event, text_of(event.get("delta")))
            case _:
                return self._read_edge(event)

    def _read_edge(self, event: dict[str, Any]) -> list[Event]:
        """Parse the start or end of the response, an item or a part of a summary."""
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
            case None if is_error_body(event):
                events = [failed_event(event)]
            case _:
                # Repetitions of the deltas, and unknown events.
                pass
        return events

    def _read_added(self, event: dict[str, Any]) -> list[Event]:
        item = object_of(event.get("item"))
        if item.get("type") != "function_call":
            return []
        number = self._calls[str(event.get("output_index"))] = len(self._calls)
        arguments = reply_arguments_text(item.get("arguments"))
        if arguments:
            self._with_arguments.add(number)
        return [ToolCallDelta(number, text_of(item.get("call_id")), text_of(item.get("name")), arguments)]

    def _read_arguments(self, event: dict[str, Any], text: str) -> list[Event]:
        number = self._calls.get(str(event.get("output_index")))
        if number is None or not text:
            return []
        self._with_arguments.add(number)
        return [ToolCallDelta(number, arguments=text)]

    def _read_done(self, event: dict[str, Any]) -> list[Event]:
        """Parse the end of an item: the signature of reasoning, or the arguments of a call without deltas."""
        item = object_of(event.get("item"))
        match item.get("type"):
            case "reasoning":
                return signature_events(read_signature(text_of(item.get("encrypted_content")), Family.OPENAI_RESPONSES))
            case "function_call":
                return self._read_late(event, item)
            case _:
                return []

    def _read_late(self, event: dict[str, Any], item: dict[str, Any]) -> list[Event]:
        """Parse a call whose start or arguments are only in its end event."""
        number = self._calls.get(str(event.get("output_index")))
        if number is None:
            return self._read_added(event)
        arguments = reply_arguments_text(item.get("arguments"))
        return [] if number in self._with_arguments else self._read_arguments(event, arguments)

    def _finished(self, response: dict[str, Any]) -> Finished:
        finish = read_status(response, called=bool(self._calls))
        return Finished(finish, usage=read_usage(response.get("usage")))

    def end(self) -> list[Event]:
        """See `StreamReader.end`: without its last event the reply is incomplete."""
        raise ended_early()
