"""What an exchange is, and short spellings for common ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from conformance.wire import Request

__all__ = ["GREEDY", "MISSING", "PIXEL", "TOOL", "Exchange", "get", "post", "raw", "say"]

MISSING = "orouter-conformance-missing"
"""A model that no server has."""
GREEDY: dict[str, Any] = {"temperature": 0, "seed": 1, "num_predict": 8}
"""Options that make a short answer the same twice, as far as a model can."""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_JSON = ("Content-Type", "application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One thing to compare: its requests go over one connection, one after another.

    `topics` say which wanted differences may occur (see `by_design`). `repeatable` says that asking the server twice
    does no harm: what it answers differently by itself is not held against the router.
    """

    group: str
    name: str
    requests: tuple[Request, ...]
    topics: frozenset[str] = frozenset()
    repeatable: bool = True


def say(text: str = "Count from one to five.") -> list[dict[str, Any]]:
    """The messages of a conversation that begins."""
    return [{"role": "user", "content": text}]


def get(group: str, name: str, path: str, *topics: str, method: str = "GET") -> Exchange:
    """A request without a body."""
    return Exchange(group=group, name=name, requests=(Request(method=method, path=path),), topics=frozenset(topics))


def post(group: str, name: str, path: str, body: Any, *topics: str, method: str = "POST") -> Exchange:
    """A request with a JSON body."""
    return raw(group, name, path, json.dumps(body).encode(), *topics, method=method)


def raw(
    group: str,
    name: str,
    path: str,
    body: bytes,
    *topics: str,
    method: str = "POST",
    headers: tuple[tuple[str, str], ...] = (_JSON,),
    repeatable: bool = True,
) -> Exchange:
    """A request with these very bytes."""
    request = Request(method=method, path=path, headers=headers, body=body)
    return Exchange(group=group, name=name, requests=(request,), topics=frozenset(topics), repeatable=repeatable)
