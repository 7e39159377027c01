"""Stored responses of `/v1/responses` for the requests that go on from them: what is kept, and what is sent."""

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
    """An answer as its client got it, and the items of the whole conversation that led to it, both as JSON."""

    id: str
    response: bytes
    items: bytes

    def __repr__(self) -> str:
        """Without what people and models say."""
        return f"StoredResponse({self.id})"

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.response) + len(self.items)


def not_found(response_id: str) -> RequestError:
    """Return the error for an answer that is not kept, or not for this user."""
    shown = response_id[:_LONGEST_ID] if response_id.isprintable() else ""
    return InvalidBody(
        f"Previous response with id '{shown}' not found: it belongs to another user, has expired, was too large, or"
        " was never stored."
        " Send the whole conversation as input"
    )


def previous_id(request: ParsedRequest) -> str | None:
    """Return the id of the answer that a request goes on from, None if it begins a conversation."""
    value = None if request.document is None else request.document.get("previous_response_id")
    return value if isinstance(value, str) and value else None


def wants_store(request: ParsedRequest) -> bool:
    """Tell whether the answer is to be kept: unless the client says no, as at OpenAI."""
    return request.document is not None and request.document.get("store") is not False


def input_items(request: ParsedRequest) -> list[Any]:
    """Return the items of a request's `input`; a text is what its user says."""
    value = None if request.document is None else request.document.get("input")
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    return value if isinstance(value, list) else []


def continued_body(request: ParsedRequest, before: StoredResponse | None) -> bytes:
    """Return the body that says the whole conversation and asks its server to keep nothing."""
    if request.document is None:
        return request.body
    changes: dict[str, str] = {"store": "false"}
    if before is not None:
        output = json.loads(before.response).get("output") or []
        changes["input"] = json.dumps([*json.loads(before.items), *map(_sent_back, output), *input_items(request)])
        changes["previous_response_id"] = "null"
    return request.document.replace(changes).encode()


def _sent_back(item: Any) -> Any:
    """Return an item of an answer as clients send it back: its id means nothing to another server."""
    if not isinstance(item, dict):
        return item
    return {key: value for key, value in item.items() if key not in {"id", "status"}}


def stored(request: ParsedRequest, answer: bytes, previous: str | None) -> StoredResponse | None:
    """Return what is kept of an answer, None for one that has not come to its end."""
    try:
        response = parse_object(answer).values
    except RequestError:
        return None
    given = response.get("id")
    if not isinstance(given, str) or not 0 < len(given) <= _LONGEST_ID or response.get("status") not in _ENDED:
        return None
    told = {**response, "store": True, "previous_response_id": previous}
    return StoredResponse(id=given, response=_dump(told), items=_dump(input_items(request)))


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class AnswerCollector:
    """Watches an answer that passes, and tells the response once it is whole; `most` bytes are held."""

    def __init__(self, *, streamed: bool, most: int) -> None:
        self._streamed = streamed
        self._most = most
        self._held = b""

    def feed(self, data: bytes, *, last: bool) -> bytes | None:
        """Look at the next bytes; returns the response as JSON, once, when its end has come."""
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
        told = (line.removeprefix(b"data:").strip() for line in lines if line.startswith(b"data:") and _EVENT in line)
        return next((found for found in map(_response_in, told) if found is not None), None)


def _response_in(data: bytes) -> bytes | None:
    """Return the response that an event ends, None for any other event."""
    try:
        event: Mapping[str, Any] = parse_object(data).values
    except RequestError:
        return None
    ends = event.get("type") in {"response.completed", "response.incomplete"} and "response" in event
    return _dump(event["response"]) if ends else None
