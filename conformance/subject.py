"""Which models the server has, and which of them the exchanges use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from conformance.wire import Request, Server

__all__ = ["NoModelError", "Subject", "discover"]


class NoModelError(Exception):
    """The server has no model that could answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The server as found. Each model is the smallest that can do it; None when there is none."""

    version: str
    model: str
    embedding: str | None = None
    thinking: str | None = None
    tools: str | None = None
    vision: str | None = None
    hearing: str | None = None

    def at_least(self, *version: int) -> bool:
        """Whether the server is that version or newer; a version without numbers counts as the newest."""
        numbers = [int(part) for part in self.version.partition("-")[0].split(".") if part.isdigit()]
        return not numbers or tuple(numbers) >= version


@dataclass(frozen=True, slots=True)
class _Model:
    name: str
    size: int
    can: frozenset[str]


def discover(server: Server) -> Subject:
    """Ask a server what it is and what it has.

    Raises:
        NoModelError: it answers no `/api/tags`, or nothing in it can generate text.
    """
    listed = server.ask(Request(method="GET", path="/api/tags")).json()
    entries = listed.get("models") if isinstance(listed, dict) else None
    if not isinstance(entries, list):
        raise NoModelError(f"{server.url} does not answer GET /api/tags as Ollama does")
    models = sorted((_describe(server, entry) for entry in entries), key=lambda one: (one.size, one.name))
    speaking = _smallest(models, lambda can: "completion" in can and "image" not in can)
    if speaking is None:
        raise NoModelError(f"{server.url} has no model that generates text: pull a small one first")
    version = server.ask(Request(method="GET", path="/api/version")).json() or {}
    return Subject(
        version=str(version.get("version", "")),
        model=speaking,
        embedding=_smallest(models, lambda can: "embedding" in can),
        thinking=_smallest(models, lambda can: {"completion", "thinking"} <= can),
        tools=_smallest(models, lambda can: {"completion", "tools"} <= can),
        vision=_smallest(models, lambda can: {"completion", "vision"} <= can),
        hearing=_smallest(models, lambda can: {"completion", "audio"} <= can),
    )


def _smallest(models: Iterable[_Model], fits: Callable[[frozenset[str]], bool]) -> str | None:
    return next((one.name for one in models if fits(one.can)), None)


def _describe(server: Server, entry: dict[str, Any]) -> _Model:
    name = str(entry.get("name"))
    remote = bool(entry.get("remote_host"))  # a stub of a hosted model: using it costs money
    capabilities = frozenset() if remote else frozenset(entry.get("capabilities") or ()) or _shown(server, name)
    return _Model(name, int(entry.get("size") or 0), capabilities)


def _shown(server: Server, name: str) -> frozenset[str]:
    """What `/api/show` says; servers older than 0.6 only tell by the keys of `model_info`."""
    body = json.dumps({"model": name}).encode()
    shown = server.ask(Request(method="POST", path="/api/show", body=body)).json() or {}
    if shown.get("capabilities"):
        return frozenset(shown["capabilities"])
    keys = shown.get("model_info") or {}
    embeds = any(key.endswith(".pooling_type") for key in keys)
    tools = {"tools"} if ".Tools" in str(shown.get("template")) else set()
    return frozenset({"embedding"}) if embeds else frozenset({"completion", *tools})
