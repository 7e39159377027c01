"""Models that a server has but cannot serve: damaged or missing weights, dying runners, repeated errors.

A model that cannot be loaded is suspended immediately, as every request would fail; other failures suspend it after
five in a row. If the model is suspended on every server that has it, all are tried, and their error is the response.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.breaker import Breaker
from ollama_router_core.fleet.notices import ModelReturned, ModelSuspended, Notice
from ollama_router_core.fleet.snapshot import EMPTY, SuspendedModel

__all__ = ["ModelFaults"]

_MOST = 1000
"""Maximum number of models tracked; for a server that never listed its models, names come from requests."""

Holders = Callable[[CanonicalName], Collection[str]]
"""Returns the servers that could otherwise serve a model."""


class ModelFaults:
    """The breakers of all models on all servers. `notify` is called when one opens or closes."""

    def __init__(self, notify: Callable[[Notice], None]) -> None:
        self._notify = notify
        self._breaker: Breaker[tuple[str, CanonicalName]] = Breaker()
        self._words: dict[tuple[str, CanonicalName], str] = {}

    def __bool__(self) -> bool:
        """Whether any model has failed since its last success."""
        return bool(self._words)

    def forget(self, server: str) -> None:
        """Delete the state of a server that returned, as it may have been repaired."""
        self._forget([key for key in self._words if key[0] == server])

    def keep(self, servers: Collection[str]) -> None:
        """Delete the state of all servers except these."""
        self._forget([key for key in self._words if key[0] not in servers])

    def failed(self, server: str, model: CanonicalName, words: str, now: float, *, at_once: bool) -> None:
        """Count a failure of one model; `at_once` suspends it immediately."""
        key = (server, model)
        while key not in self._words and len(self._words) >= _MOST:
            self._end(next(iter(self._words)))
        self._words[key] = words
        jitter = zlib.crc32(f"{server}{model}".encode()) / 2**32
        if self._breaker.failed(key, now, jitter=jitter, at_once=at_once):
            until = self._breaker.state(key).until or now
            self._notify(ModelSuspended(server, model, until - now, words))

    def succeeded(self, server: str, model: CanonicalName) -> None:
        """Count a success, which ends the model's failures."""
        if (server, model) in self._words:
            self._end((server, model))

    def take(self, server: str, model: CanonicalName, now: float) -> bool:
        """Take the one trial of a model after its suspension; return False if none is available."""
        key = (server, model)
        state = self._breaker.state(key)
        return key in self._words and state.until is not None and self._breaker.admit(key, now)

    def probe(self, server: str, model: CanonicalName) -> bool:
        """Start a load probe of a suspended model; return False during another probe or trial."""
        return (server, model) in self._words and self._breaker.probe((server, model))

    def abandoned(self, server: str, model: CanonicalName) -> None:
        """End a trial without a result."""
        self._breaker.abandoned((server, model))

    def until(self, server: str, model: CanonicalName) -> float | None:
        """Return when a suspended model may be tried again, None if it is not suspended."""
        key = (server, model)
        return self._breaker.state(key).until if key in self._words else None

    def suspended(self, holders: Holders, now: float) -> Mapping[str, Mapping[CanonicalName, SuspendedModel]]:
        """Return the suspended models by server, for `FleetSnapshot.suspended_models`."""
        found: dict[str, dict[CanonicalName, SuspendedModel]] = {}
        for model in dict.fromkeys(model for _, model in self._words):
            keys = [(server, model) for server in holders(model)]
            for (server, _), until in self._breaker.suspended(keys, now).items():
                found.setdefault(server, {})[model] = SuspendedModel(until, self._words.get((server, model), ""))
        return found or EMPTY

    def to_json(self, server: str, now: float) -> dict[str, Any]:
        """Return the failed models of one server, for status pages."""
        return {
            key[1]: {"error": words, **self._breaker.to_json(key, now)}
            for key, words in self._words.items()
            if key[0] == server
        }

    def _end(self, key: tuple[str, CanonicalName]) -> None:
        was_out = self._breaker.state(key).until is not None
        self._forget([key])
        if was_out:
            self._notify(ModelReturned(*key))

    def _forget(self, keys: Collection[tuple[str, CanonicalName]]) -> None:
        for key in keys:
            self._words.pop(key, None)
        self._breaker.forget(keys)
