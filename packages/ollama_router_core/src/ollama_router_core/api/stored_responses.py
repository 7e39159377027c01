"""Stored responses of `/v1/responses`, and the requests that continue them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.api.strict_json import parse_object
from ollama_router_core.errors import InvalidBody, RequestError

__all__ = [
    "AnswerCollector",
    "StoredResponse",
    "continued_body",
    "input_items",
    "not_found",
    "previous_id",
    "stored",
    "wants_store",
]

_LONGEST_ID = 200
_EVENT = b'"response.'
_ENDED = frozenset({"completed", "incomplete"})


class StoredResponse(Struct, frozen=True, kw_only=True):
    """A response as sent to the client, and the items of the conversation before it, both as JSON."""

    id: str
    response: bytes
    items: bytes

    def __repr__(self) -> str:
        """Omit the contents of the conversation."""
        return f"StoredResponse({self.id})"

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.response) + len(self.items)


def not_found(response_id: str) -> RequestError:
    """Return the error for a response that is not stored, or belongs to another user."""
    shown = response_id[:_LONGEST_ID] if response_id.isprintable() else ""
    return InvalidBody(
        f"Previous response with id '{shown}' not found: it belongs to another user, has expired, was too large, or"
        " was never stored."
        " Send the whole conversation as input"
    )


def previous_id(request: ParsedRequest) -> str | None:
    """Return the id of the response that a request continues; None for a new conversation."""
    value = None if request.document is None else request.document.get("previous_response_id")
    return value if isinstance(value, str) and value else None


def wants_store(request: ParsedRequest) -> bool:
    """Return whether to store the response: unless `store` is false, as at OpenAI."""
    return request.document is not None and request.document.get("store") is not False


def input_items(request: ParsedRequest) -> list[Any]:
    """Return the items of a request's `input`; a text becomes a user message."""
    value = None if request.document is None else request.document.get("input")
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    return value if isinstance(value, list) else []


def continued_body(request: ParsedRequest, before: StoredResponse | None) -> bytes:
    """Return the body with the whole conversation and `store` set to false."""
    if request.document is None:
        return request.body
    changes: dict[str, str] = {"store": "false"}
    if before is not None:
        output = json.loads(before.response).get("output") or []
        changes["input"] = json.dumps([*json.loads(before.items), *map(_sent_back, output), *input_items(request)])
        changes["previous_response_id"] = "null"
    return request.document.replace(changes).encode()


def _sent_back(item: Any) -> Any:
    """Return an item of a response as clients send it back, without its id, which other servers do not know."""
    if not isinstance(item, dict):
        return item
    return {key: value for key, value in item.items() if key not in {"id", "status"}}


def stored(request: ParsedRequest, answer: bytes, previous: str | None) -> StoredResponse | None:
    """Return the response to store; None if it is incomplete or invalid."""
    try:
        response = parse_object(answer).values
    except RequestError:
        return None
    answer_id = response.get("id")
    if not isinstance(answer_id, str) or not 0 < len(answer_id) <= _LONGEST_ID or response.get("status") not in _ENDED:
        return None
    shown = {**response, "store": True, "previous_response_id": previous}
    return StoredResponse(id=answer_id, response=_dump(shown), items=_dump(input_items(request)))


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class AnswerCollector:
    """Collect the response from forwarded bytes, buffering at most `most` bytes."""

    def __init__(self, *, streamed: bool, most: int) -> None:
        self._streamed = streamed
        self._most = most
        self._held = b""

    def feed(self, data: bytes, *, last: bool) -> bytes | None:
        """Add the next bytes; return the response as JSON once, when it is complete."""
        if self._most < 0:
            return None
        self._held += data
        if len(self._held) > self._most:
            self._done()
            return None
        found = self._in_events() if self._streamed else self._held if last else None
        if found is not None:
            self._done()
        return found

    def _done(self) -> None:
        self._held, self._most = b"", -1

    def _in_events(self) -> bytes | None:
        *lines, self._held = self._held.split(b"\n")
        events = (line.removeprefix(b"data:").strip() for line in lines if line.startswith(b"data:") and _EVENT in line)
        return next((found for found in map(_response_in, events) if found is not None), None)


def _response_in(data: bytes) -> bytes | None:
    """Return the response of a final event; None for any other event."""
    try:
        event: Mapping[str, Any] = parse_object(data).values
    except RequestError:
        return None
    ends = event.get("type") in {"response.completed", "response.incomplete"} and "response" in event
    return _dump(event["response"]) if ends else None
