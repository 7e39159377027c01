"""Answers that are made of every server's answer: merged lists, in Ollama's and OpenAI's shapes.

Belongs here: merging bodies that have arrived.
Does not belong here: asking servers, deadlines, permissions.

Rows pass through with every field as the server sent it. A body that is not what its route answers counts as absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ollama_router_core.names import CanonicalName, canonical_name

__all__ = ["lowest_version", "merge_openai_models", "merge_ps", "merge_tags"]

Bodies = Mapping[str, bytes]
"""Server name to the body it answered."""


def merge_tags(bodies: Bodies) -> bytes:
    """`/api/tags`: the union; the same name with the same digest stands once, with other digests each stands."""
    rows: dict[tuple[CanonicalName, str], dict[str, Any]] = {}
    for _, row in _rows(bodies, "models"):
        rows.setdefault((_name(row), str(row.get("digest"))), row)
    return _dump({"models": sorted(rows.values(), key=_newest_first)})


def merge_ps(bodies: Bodies) -> bytes:
    """`/api/ps`: every loaded model of every server, fields intact."""
    return _dump({"models": [row for _, row in _rows(bodies, "models")]})


def merge_openai_models(bodies: Bodies, extra: Iterable[str]) -> bytes:
    """`/v1/models`: the union by id, then the ids that only assignments offer."""
    rows: dict[str, dict[str, Any]] = {}
    for _, row in _rows(bodies, "data"):
        rows.setdefault(str(row.get("id")), row)
    for name in extra:
        rows.setdefault(name, {"id": name, "object": "model", "created": 0, "owned_by": "ollama-router"})
    return _dump({"object": "list", "data": list(rows.values())})


def lowest_version(bodies: Bodies) -> str | None:
    """The oldest version among `/api/version` bodies: clients that look at it stay on safe ground."""
    found = [version for body in bodies.values() if isinstance(version := _object(body).get("version"), str)]
    return min(found, key=_version_key, default=None)


def _version_key(text: str) -> tuple[tuple[int, ...], bool, str]:
    core, dash, rest = text.partition("-")
    return tuple(int(number) for number in re.findall(r"\d+", core)), not dash, rest


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _rows(bodies: Bodies, key: str) -> Iterable[tuple[str, dict[str, Any]]]:
    for server in sorted(bodies):
        rows = _object(bodies[server]).get(key)
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict):
                yield server, row


def _name(row: Mapping[str, Any]) -> CanonicalName:
    return canonical_name(str(row.get("name") or row.get("model") or ""))


def _newest_first(row: Mapping[str, Any]) -> tuple[int, ...]:
    """Ollama lists the latest `modified_at` first; RFC 3339 texts of one offset compare as texts."""
    return tuple(-ord(letter) for letter in str(row.get("modified_at") or ""))


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
