"""Polls of simulated servers, with the product's schedule and parsers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.fleet.inventory import PollReply, PollRequest, poll_models
from ollama_router_core.fleet.memory.formulas import GIB
from ollama_router_core.fleet.state import WHILE_LOADING, FleetState
from ollama_router_core.simulation.residency import Residency
from ollama_router_core.simulation.server_state import ServerState
from ollama_router_core.simulation.workload import SimulatedModel

__all__ = ["Polls"]

_FOR_EVER = 292 * 365 * 86_400.0
"""Seconds until the expiry of a model kept for ever, as Ollama reports it."""


class Polls:
    """Poll each server at the configured interval, and more often during a load."""

    def __init__(self, config: Config, late: float) -> None:
        self._models = config.models
        self._every = config.health_check_interval
        self._late = late
        self._due: dict[str, float] = {}
        self._reports: dict[str, deque[tuple[float, bytes]]] = {}
        self._servers: Mapping[str, ServerState] = {}
        self._tags: dict[str, bytes] = {}

    def start(self, servers: Mapping[str, ServerState], models: Mapping[str, SimulatedModel]) -> None:
        """Initialise the schedule; a server has every model on disk that it can hold."""
        self._servers = servers
        self._due = {name: self._every * (number + 1) / len(servers) for number, name in enumerate(servers)}
        self._reports = {name: deque() for name in servers}
        for name, state in servers.items():
            rows = [_installed(one) for one in models.values() if state.machine.holds(one)]
            self._tags[name] = msgspec.json.encode({"models": rows})

    @property
    def next_at(self) -> float:
        """The time at which the next server is due."""
        return min(self._due.values(), default=math.inf)

    def due(self, now: float) -> list[str]:
        """Return the servers to poll now."""
        return [name for name, at in self._due.items() if at <= now]

    def load_begun(self, name: str, now: float) -> None:
        """Schedule a poll soon, to detect the end of a load."""
        self._due[name] = now + WHILE_LOADING

    def ask(self, fleet: FleetState, name: str, now: float) -> None:
        """Poll a server if it is up, and schedule the next poll."""
        if fleet.servers[name].up:
            self._poll_models(fleet, name, now)
        self._due[name] = now + (min(self._every, WHILE_LOADING) if fleet.servers[name].loading else self._every)

    def _poll_models(self, fleet: FleetState, name: str, now: float) -> None:
        questions = poll_models(name, ClockedFleet(fleet, lambda: now), self._models, now=now)
        with suppress(StopIteration):
            question = next(questions)
            while True:
                question = questions.send(self._answer(name, question, now))

    def _answer(self, name: str, question: PollRequest, now: float) -> PollReply:
        if question.path == "/api/tags":
            return PollReply(200, self._tags[name], now, now, now)
        if question.path == "/api/ps":
            sent, body = self._ps(name, now)
            return PollReply(200, body, now, now, sent)
        return PollReply(200, b"{}", now, now, now)

    def _ps(self, name: str, now: float) -> tuple[float, bytes]:
        """Return a server's `/api/ps` response, and its time."""
        state = self._servers[name]
        rows = [
            {
                "name": model,
                "size": round(state.machine.need(held.model, held.context.tokens) * GIB),
                "size_vram": round(held.size * GIB),
                "context_length": held.context.tokens,
                "expires_at": _expiry(held, now),
            }
            for model, held in state.loaded.items()
        ]
        reports = self._reports[name]
        reports.append((now, msgspec.json.encode({"models": rows})))
        while len(reports) > 1 and reports[1][0] <= now - self._late:
            reports.popleft()
        return reports[0]


def _installed(model: SimulatedModel) -> dict[str, Any]:
    """Build a row of `/api/tags`, without unknown facts."""
    details = {"family": model.family, "format": model.format, "context_length": model.context_length}
    known = {name: value for name, value in details.items() if value is not None}
    row: dict[str, Any] = {"name": model.name, "size": round(model.weights_gib * GIB), "digest": f"sha256:{model.name}"}
    if model.embeds:
        row["capabilities"] = ["embedding"]
    return {**row, "details": known} if known else row


def _expiry(held: Residency, now: float) -> str:
    since = now if held.running else held.used_at
    return datetime.fromtimestamp(since + min(held.keep_alive, _FOR_EVER), UTC).isoformat()
