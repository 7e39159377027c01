"""Replay of logged requests in virtual time: as logged, and by strategies under a config.

All worlds have the same arrivals, and server speeds learned from the log. Only simulated worlds are compared with each
other; `measured` has the real durations, to judge the accuracy of the simulation.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace  # noqa: TID251 - these are dataclasses
from typing import Any

from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation.comparison import results, serve
from ollama_router_core.simulation.engine import SimulationResult
from ollama_router_core.simulation.logged import LoggedRouter, logged_scenario, model_of, replayed
from ollama_router_core.simulation.report import Summary, percentile, summarise
from ollama_router_core.simulation.what_if import Change, losses

__all__ = ["Move", "Placed", "Replay", "World", "replay"]


@dataclass(frozen=True, slots=True)
class Move:
    """The number of requests for a model that would move from one server to another."""

    model: str
    old: str
    new: str
    requests: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {"model": self.model, "from": self.old, "to": self.new, "requests": self.requests}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where and when a logged request would be served; times are seconds since 1970, with the logged arrival.

    `model` is the logged name. `server` is None for a request that would be rejected, at `served`. `loaded` is whether
    its model would be loaded for it.
    """

    model: str
    server: str | None
    began: float
    served: float
    ended: float
    loaded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One world's figures, requests by server, and `moves` relative to the log.

    `placed` has each request, unordered.
    """

    summary: Summary
    servers: Mapping[str, int]
    moves: tuple[Move, ...] = ()
    placed: tuple[Placed, ...] = ()

    @property
    def moved(self) -> int:
        """The number of requests that another server would get."""
        return sum(one.requests for one in self.moves)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The logged world and the others of a replay. `measured` are the real seconds to each request's end."""

    measured: tuple[float, ...]
    logged: World
    others: tuple[World, ...]

    def _measured(self, share: float) -> float | None:
        return round(percentile(self.measured, share), 3) if self.measured else None

    def to_json(self) -> dict[str, Any]:
        """Return every world's figures; `worse` has the models and users that wait longer than in the logged world."""
        before = self.logged.summary
        return {
            "requests": before.requests,
            "measured_p50": self._measured(0.5),
            "measured_p95": self._measured(0.95),
            "worlds": [
                {
                    **one.summary.to_json(),
                    "servers": dict(one.servers),
                    "moved": one.moved,
                    "moves": [move.to_json() for move in one.moves],
                    "worse": [loss.to_json() for loss in losses(before, one.summary)],
                }
                for one in (self.logged, *self.others)
            ],
        }


def replay(
    rows: Iterable[RequestRecord],
    snapshot: FleetSnapshot,
    config: Config,
    routers: Sequence[str] = (),
    change: Change | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> Replay:
    """Replay each logged request for a model. `snapshot` is used only for the models on disk.

    Rows may be in any order; those of external hosts, or without inference, are omitted. The default of `routers` is
    the config's strategy. `on_progress` is called with the number of arrived requests and their total, over all worlds.

    Raises:
        KeyError: a router's name is unknown.
        ConfigError: the change does not apply to the config's servers.
    """
    records = replayed(rows, config)
    scenario = logged_scenario(records, snapshot, config)
    names = routers or (config.routing_strategy,)
    worlds = 1 + len(names) * (2 if change else 1)
    steps = itertools.count(1)
    step = None if on_progress is None else lambda: on_progress(next(steps), worlds * len(records))
    before = serve(LoggedRouter(records), scenario, step)
    enabled = {name for name, server in config.servers.items() if server.enabled}
    own = replace(scenario, machines=tuple([one for one in scenario.machines if one.name in enabled]))
    return Replay(
        measured=tuple([row.total_ms / 1000 for row in records]),
        logged=World(summary=summarise(before), servers=_servers(before)),
        others=tuple([_world(before, after, records) for after in results(own, names, change, step)]),
    )


def _world(before: SimulationResult, after: SimulationResult, rows: Sequence[RequestRecord]) -> World:
    was = {one.job.number: one.server for one in before.outcomes}
    moves = Counter(
        (str(one.job.model), was[one.job.number], one.server)
        for one in after.outcomes
        if was.get(one.job.number, one.server) != one.server
    )
    return World(
        summary=summarise(after),
        servers=_servers(after),
        moves=tuple(Move(*key, count) for key, count in moves.most_common()),
        placed=tuple(_placed(after, rows)),
    )


def _placed(result: SimulationResult, rows: Sequence[RequestRecord]) -> Iterator[Placed]:
    """Yield each request with its real time of arrival, as the simulation shortens pauses."""
    for one in result.outcomes:
        row = rows[one.job.number]
        later = row.started_at - one.job.at
        yield Placed(
            model=model_of(row),
            server=one.server,
            began=row.started_at,
            served=one.sent + later,
            ended=one.finished + later,
            loaded=one.load > 0,
        )
    for refused in result.rejections:
        row = rows[refused.job.number]
        at = row.started_at + refused.at - refused.job.at
        yield Placed(model=model_of(row), server=None, began=row.started_at, served=at, ended=at, loaded=False)


def _servers(result: SimulationResult) -> dict[str, int]:
    return dict(sorted(Counter(one.server for one in result.outcomes).items()))
