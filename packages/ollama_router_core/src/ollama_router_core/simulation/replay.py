"""Logged requests decided once more, under another config: what would move, and what that should change.

Two worlds run side by side, one in which every request goes where the log says and one in which the new config
decides; both know the same speeds, learned from the log itself. What is compared are expected seconds in both, not the
log's own times, which depend on more than routing. Waiting in the router's line is not replayed.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot, LoadedModel, ServerFacts
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.routing.candidates import WARM, Candidate
from ollama_router_core.routing.expected_time import expected_time
from ollama_router_core.routing.selector import ServerSelector
from ollama_router_core.simulation.report import percentile

__all__ = ["Replay", "replay"]

_CALLS = frozenset({"/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions",
                    "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/responses"})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came of it. `moves` counts requests by model, old and new server; `unplaced` ones would wait or be refused.

    `before` and `after` are expected seconds to the end of those requests that have a server in both worlds; `loads`
    are cold starts.
    """

    requests: int
    unplaced: int
    moves: tuple[tuple[str, str, str, int], ...]
    by_server: tuple[tuple[str, int, int], ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    loads_before: int
    loads_after: int

    @property
    def moved(self) -> int:
        """Requests that another server would get."""
        return sum(count for *_, count in self.moves)

    def to_json(self) -> dict[str, Any]:
        """The same with percentiles, seconds to a millisecond."""
        return {
            "requests": self.requests,
            "moved": self.moved,
            "unplaced": self.unplaced,
            "moves": [{"model": model, "from": old, "to": new, "requests": n} for model, old, new, n in self.moves],
            "servers": {name: {"before": old, "after": new} for name, old, new in self.by_server},
            "expected_seconds": {"before": _figures(self.before), "after": _figures(self.after)},
            "loads": {"before": self.loads_before, "after": self.loads_after},
        }


def _figures(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: round(percentile(values, share), 3) for name, share in shares.items()}


def replay(rows: Iterable[RequestRecord], snapshot: FleetSnapshot, config: Config) -> Replay:
    """Decide each logged request for a model again. `snapshot` says what servers have; its loads are not used.

    Rows may come in any order; those without a server or that are about other things are left out.
    """
    told = sorted((row for row in rows if row.server and row.model_served and row.path in _CALLS), key=_start)
    book = _learned(told, snapshot)
    old, new = _World(snapshot, config, book), _World(snapshot, config, book)
    moves: Counter[tuple[str, str, str]] = Counter()
    servers: dict[str, list[int]] = {}
    before: list[float] = []
    after: list[float] = []
    unplaced = 0
    for turn, row in enumerate(told):
        request, was = _request(row), row.server or ""
        servers.setdefault(was, [0, 0])[0] += 1
        chosen = new.choose(request, row.started_at, turn)
        cost = old.follow(request, was, row)
        if chosen is None:
            unplaced += 1
            continue
        servers.setdefault(chosen, [0, 0])[1] += 1
        cost_now = new.follow(request, chosen, row)
        if cost is not None and cost_now is not None:
            before.append(cost)
            after.append(cost_now)
        if chosen != was:
            moves[request.model_text or "", was, chosen] += 1
    return Replay(
        requests=len(told),
        unplaced=unplaced,
        moves=tuple((*key, count) for key, count in moves.most_common()),
        by_server=tuple((name, *counts) for name, counts in sorted(servers.items())),  # type: ignore[misc]
        before=tuple(before),
        after=tuple(after),
        loads_before=old.loads,
        loads_after=new.loads,
    )


def _start(row: RequestRecord) -> float:
    return row.started_at


def _request(row: RequestRecord) -> RouteRequest:
    name = row.model_served or ""
    return RouteRequest(
        model_text=name,
        model=canonical_name(name),
        num_ctx=row.num_ctx,
        prompt_tokens=row.prompt_tokens or 0,
        max_tokens=row.completion_tokens,
    )


def _learned(rows: Iterable[RequestRecord], snapshot: FleetSnapshot) -> SpeedBook:
    """Speeds from the log: the router's own times stand in for the metrics that it does not keep."""
    book = SpeedBook()
    for row in rows:
        facts = snapshot.servers.get(row.server or "")
        if facts is None or row.ttft_ms is None or row.status != 200:
            continue
        model = canonical_name(row.model_served or "")
        load, first = row.load_ms or 0.0, max(0.0, row.ttft_ms - (row.queue_ms or 0.0))
        sample = Sample(
            load_ns=round(load * 1e6),
            prompt_tokens=row.prompt_tokens or 0,
            prompt_ns=round(max(0.0, first - load) * 1e6) if row.streamed else 0,
            output_tokens=row.completion_tokens or 0,
            output_ns=round((row.total_ms - row.ttft_ms) * 1e6) if row.streamed else 0,
        )
        weight = model_weight(model, (facts.installed or {}).get(model))
        book = book.observe(facts.name, model, weight, sample)
    return book


class _World:
    """One course of events: what is loaded and running where, if every request goes where it is sent."""

    def __init__(self, snapshot: FleetSnapshot, config: Config, book: SpeedBook) -> None:
        cold = {name: replace(facts, loaded=MappingProxyType({})) for name, facts in snapshot.servers.items()}
        self._servers: dict[str, ServerFacts] = cold
        self._selector = ServerSelector(config)
        self._book = book
        self._running: list[tuple[float, str]] = []
        self._in_flight: Counter[str] = Counter()
        self.loads = 0

    def choose(self, request: RouteRequest, now: float, turn: int) -> str | None:
        """Where the config sends it."""
        self._advance(now)
        return self._selector.decide(request, self._snapshot(), now=now, tiebreak=turn).server

    def follow(self, request: RouteRequest, server: str, row: RequestRecord) -> float | None:
        """It goes there; the expected seconds to its end, None where nothing can be said."""
        now = row.started_at
        self._advance(now)
        snapshot = self._snapshot()
        able = {one.name: one for one in self._selector.plan(request, snapshot).able}
        candidate = able.get(server)
        self._in_flight[server] += 1
        heapq.heappush(self._running, (now + row.total_ms / 1000, server))
        if candidate is None:
            return None
        seconds = expected_time(candidate, request, snapshot, now=now).done
        if request.model is not None:
            self._touch(candidate, request.model, request.num_ctx, now)
        return seconds

    def _advance(self, now: float) -> None:
        while self._running and self._running[0][0] <= now:
            _, server = heapq.heappop(self._running)
            self._in_flight[server] -= 1

    def _snapshot(self) -> FleetSnapshot:
        return FleetSnapshot(servers=self._servers, in_flight=dict(self._in_flight), speeds=self._book)

    def _touch(self, candidate: Candidate, model: CanonicalName, num_ctx: int | None, now: float) -> None:
        """The model is in memory now; what it has no room beside has to go. Ollama keeps it for five minutes."""
        if candidate.warmth == WARM:
            return
        self.loads += 1
        gone = {name for name, _ in candidate.victims} | {model}
        kept = {name: one for name, one in candidate.facts.loaded.items() if name not in gone}
        size = candidate.size
        kept[model] = LoadedModel(name=model, size=size, size_vram=size, context_length=num_ctx, expires_at=now + 300.0)
        facts = replace(candidate.facts, loaded=MappingProxyType(kept))
        self._servers = {**self._servers, candidate.name: facts}
