"""Models that a server has and cannot serve: weights that are damaged or gone, runners that die, errors in a row.

One that cannot be loaded is out at once, since every request would meet the same; one that fails in another way is out
after five failures in a row. When every server that has the model is out, all are asked: their own words are then the
answer.
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
"""Models of servers that are remembered; names come from requests, too, where a server never listed its models."""

Holders = Callable[[CanonicalName], Collection[str]]
"""The servers that could serve a model otherwise."""


class ModelFaults:
    """The breakers of all models on all servers. `notify` is called when one opens or closes."""

    def __init__(self, notify: Callable[[Notice], None]) -> None:
        self._notify = notify
        self._breaker: Breaker[tuple[str, CanonicalName]] = Breaker()
        self._words: dict[tuple[str, CanonicalName], str] = {}

    def __bool__(self) -> bool:
        """Whether any model failed since it was last served."""
        return bool(self._words)

    def forget(self, server: str) -> None:
        """Forget what is known about a server that came back: it may have been mended."""
        self._forget([key for key in self._words if key[0] == server])

    def keep(self, servers: Collection[str]) -> None:
        """Forget what is known about other servers than these."""
        self._forget([key for key in self._words if key[0] not in servers])

    def failed(self, server: str, model: CanonicalName, words: str, now: float, *, at_once: bool) -> None:
        """Count a failure of one model; `at_once` if it cannot be served there at all."""
        key = (server, model)
        while key not in self._words and len(self._words) >= _MOST:
            self._end(next(iter(self._words)))
        self._words[key] = words
        jitter = zlib.crc32(f"{server}{model}".encode()) / 2**32
        if self._breaker.failed(key, now, jitter=jitter, at_once=at_once):
            until = self._breaker.state(key).until or now
            self._notify(ModelSuspended(server, model, until - now, words))

    def succeeded(self, server: str, model: CanonicalName) -> None:
        """Count an answer: the model can be served there."""
        if (server, model) in self._words:
            self._end((server, model))

    def take(self, server: str, model: CanonicalName, now: float) -> bool:
        """Take the one trial of a model whose time is up; False while there is none to take."""
        key = (server, model)
        state = self._breaker.state(key)
        return key in self._words and state.until is not None and self._breaker.admit(key, now)

    def probe(self, server: str, model: CanonicalName) -> bool:
        """Begin a probe of the router's own for a model that is out; False while that or a trial is under way."""
        return (server, model) in self._words and self._breaker.probe((server, model))

    def abandoned(self, server: str, model: CanonicalName) -> None:
        """End a trial that says nothing."""
        self._breaker.abandoned((server, model))

    def until(self, server: str, model: CanonicalName) -> float | None:
        """Return when a model that is out may be tried again, None if it is not out."""
        key = (server, model)
        return self._breaker.state(key).until if key in self._words else None

    def suspended(self, holders: Holders, now: float) -> Mapping[str, Mapping[CanonicalName, SuspendedModel]]:
        """Return the models that servers are not asked for now, for `FleetSnapshot.suspended_models`."""
        found: dict[str, dict[CanonicalName, SuspendedModel]] = {}
        for model in dict.fromkeys(model for _, model in self._words):
            keys = [(server, model) for server in holders(model)]
            for (server, _), until in self._breaker.suspended(keys, now).items():
                found.setdefault(server, {})[model] = SuspendedModel(until, self._words.get((server, model), ""))
        return found or EMPTY

    def to_json(self, server: str, now: float) -> dict[str, Any]:
        """Return the models of one server that failed, for status pages."""
        return {model: self._one_json(key, now) for key in self._words if key[0] == server for model in key[1:]}

    def _one_json(self, key: tuple[str, CanonicalName], now: float) -> dict[str, Any]:
        state = self._breaker.state(key)
        left = None if state.until is None else round(max(0.0, state.until - now), 1)
        return {
            "error": self._words[key],
            "failures_in_a_row": state.failures,
            "ejections": state.ejections,
            "tried_again_in_seconds": left,
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
