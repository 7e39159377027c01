"""Logged requests as a scenario, with server speeds learned from the log, and a router that repeats the log."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config, Server
from ollama_router_core.errors import Overloaded
from ollama_router_core.fleet.memory.formulas import GIB
from ollama_router_core.fleet.slots import SlotBook, only_embeds
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, ModelWeight
from ollama_router_core.fleet.speeds import Sample, SpeedBook, model_weight
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.routing.selector import assigned_destination
from ollama_router_core.simulation.engine import Action, Dispatch, Rejection, Router
from ollama_router_core.simulation.logged_times import Phases, clocks, phases
from ollama_router_core.simulation.overlaps import overlaps, slots_shown
from ollama_router_core.simulation.routers import Knowledge
from ollama_router_core.simulation.scenarios import Scenario
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import Job, SimulatedModel

__all__ = ["LoggedRouter", "logged_scenario", "model_of", "replayed"]

_CALLS = frozenset({"/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions",
                    "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/responses"})  # fmt: skip
_UNLIMITED = 1e6
"""GiB of a server with unknown memory, as the log does not show which models it held together."""
_UNCONFIGURED = Server(host="unknown")
_PAUSE = 900.0
"""Longest pause in seconds after the last response: all models are unloaded by then. Longer pauses are cut."""


def replayed(rows: Iterable[RequestRecord], config: Config) -> tuple[RequestRecord, ...]:
    """Return the rows that can be replayed, in chronological order: requests for a model on configured servers.

    Rejected requests are included only if they waited too long or the queue was full.
    """
    found = [row for row in rows if row.path in _CALLS and model_of(row) and _is_ours(row, config)]
    return tuple(sorted(found, key=lambda row: row.started_at))


def _is_ours(row: RequestRecord, config: Config) -> bool:
    if row.server in config.external_hosts or (row.server is None and row.error_code != Overloaded.code):
        return False
    name = model_of(row)
    assigned = assigned_destination(RouteRequest(model_text=name, model=canonical_name(name)), config)
    return assigned is None or assigned in config.servers


def model_of(row: RequestRecord) -> str:
    """Return a row's model as logged; empty without one."""
    return row.model_served or (row.model_asked or "" if row.server is None else "")


def logged_scenario(rows: Sequence[RequestRecord], snapshot: FleetSnapshot, config: Config) -> Scenario:
    """Build the scenario of `replayed` rows.

    Speeds are learned from the log, `snapshot` has the models on disk, `config` the memory; a server without a memory
    setting holds three models of any size. Slots are the configured ones, unless the log shows fewer, else those shown
    by the log. Pauses in which models are unloaded are shortened.
    """
    installed = _installed(snapshot)
    weights = {
        name: model_weight(name, installed.get(name)) for name in {canonical_name(model_of(row)) for row in rows}
    }
    clock = clocks(rows)
    speeds = _learned(rows, clock, snapshot)
    slots = slots_shown(rows, clock, [name for name, one in config.servers.items() if one.num_parallel])
    names = [*config.servers, *sorted({row.server for row in rows if row.server} - config.servers.keys())]
    models = tuple(_simulated(name, one, installed.get(name)) for name, one in sorted(weights.items()))
    return Scenario(
        name="log",
        machines=tuple(_machine(name, rows, snapshot, config, weights, speeds, slots) for name in names),
        models=models,
        jobs=tuple(_jobs(rows)),
        knowledge=Knowledge(config=config),
    )


def _installed(snapshot: FleetSnapshot) -> dict[CanonicalName, InstalledModel]:
    found: dict[CanonicalName, InstalledModel] = {}
    for facts in snapshot.servers.values():
        found |= facts.installed or {}
    return found


def _simulated(name: CanonicalName, weight: ModelWeight, installed: InstalledModel | None) -> SimulatedModel:
    """Build a model, with the family and format that determine its slots and runner, if reported."""
    family, format_ = (None, None) if installed is None else (installed.family, installed.format)
    return SimulatedModel(
        name=name,
        billions=weight.parameters / 1e9,
        weights_gib=weight.size / GIB,
        family=family,
        format=format_,
        embeds=installed is not None and only_embeds(installed),
    )


def _machine(
    name: str,
    rows: Iterable[RequestRecord],
    snapshot: FleetSnapshot,
    config: Config,
    weights: Mapping[CanonicalName, ModelWeight],
    speeds: SpeedBook,
    seen: SlotBook,
) -> Machine:
    facts, settings = snapshot.servers.get(name), config.servers.get(name) or _UNCONFIGURED
    installed = None if facts is None else facts.installed
    served = {canonical_name(model_of(row)) for row in rows if row.server == name}
    gpus = settings.gpus or ()
    return Machine(
        name=name,
        vram_gib=settings.max_memory_gb or sum(gpus) or _UNLIMITED,
        bandwidth=math.nan,
        tflops=math.nan,
        load_rate=math.nan,
        priority=settings.priority,
        num_parallel=seen.of(name, settings.num_parallel),
        max_loaded=settings.max_loaded_models or 3 * max(1, len(gpus)),
        installed=frozenset(served.union(installed or ())),
        measured={model: speeds.expect(name, model, weight) for model, weight in weights.items()},
    )


def _jobs(rows: Sequence[RequestRecord]) -> Iterator[Job]:
    """Yield a job for each row; a rejected request has the usual length of its model."""
    prompts, outputs = _usual(rows, "prompt_tokens"), _usual(rows, "completion_tokens")
    for number, (row, at) in enumerate(zip(rows, _without_pauses(rows), strict=True)):
        model = canonical_name(model_of(row))
        served = row.server is not None
        yield Job(
            number=number,
            at=at,
            model=model,
            prompt_tokens=max(1, (row.prompt_tokens if served else None) or prompts.get(model, 1)),
            output_tokens=max(1, (row.completion_tokens if served else None) or outputs.get(model, 1)),
            num_ctx=row.num_ctx,
            user=row.user or "",
        )


def _usual(rows: Iterable[RequestRecord], field: str) -> dict[CanonicalName, int]:
    found: dict[CanonicalName, list[int]] = {}
    for row in rows:
        if row.server is not None and getattr(row, field):
            found.setdefault(canonical_name(model_of(row)), []).append(getattr(row, field))
    return {model: round(median(values)) for model, values in found.items()}


def _without_pauses(rows: Sequence[RequestRecord]) -> Iterator[float]:
    cut = idle_from = rows[0].started_at if rows else 0.0
    for row in rows:
        cut += max(0.0, row.started_at - idle_from - _PAUSE)
        idle_from = max(idle_from, row.started_at + row.total_ms / 1000)
        yield row.started_at - cut


def _learned(rows: Sequence[RequestRecord], clock: Mapping[str, float], snapshot: FleetSnapshot) -> SpeedBook:
    """Learn speeds from the log, with the router's times for servers that reported no durations."""
    book = SpeedBook()
    for row, overlap in zip(rows, overlaps(rows, clock), strict=True):
        if row.server is None or row.ttft_ms is None or row.status != 200:
            continue
        model = canonical_name(model_of(row))
        facts = snapshot.servers.get(row.server)
        weight = model_weight(model, None if facts is None else facts.model(model))
        book = book.observe(
            row.server,
            model,
            weight,
            _sample(row, phases(row, row.ttft_ms, clock.get(row.server, 1.0)), overlap.neighbours),
        )
    return book


def _sample(row: RequestRecord, took: Phases, neighbours: float) -> Sample:
    return Sample(
        load_ns=round(took.load * 1e9),
        prompt_tokens=(row.prompt_tokens or 0) - (row.cached_tokens or 0),
        prompt_ns=round(took.prefill * 1e9),
        output_tokens=row.completion_tokens or 0,
        output_ns=round(took.decode * 1e9),
        neighbours=neighbours,
    )


class LoggedRouter(Router):
    """Repeat the log: dispatch each job to its logged server after its logged wait, and reject what was rejected."""

    name = "logged"

    def __init__(self, rows: Sequence[RequestRecord]) -> None:
        self._rows = rows
        self._waiting: list[tuple[float, int, Job]] = []

    def arrive(self, job: Job, now: float) -> Iterable[Action]:
        """Reject the job, or hold it for its logged wait."""
        row = self._rows[job.number]
        if row.server is None:
            return [Rejection(job, row.error_code or "", now, row.total_ms / 1000)]
        heapq.heappush(self._waiting, (now + (row.queue_ms or 0.0) / 1000, job.number, job))
        return self.wake(now)

    def wake_at(self, _now: float) -> float:
        """Return when the next job is due."""
        return self._waiting[0][0] if self._waiting else math.inf

    def wake(self, now: float) -> Iterable[Action]:
        """Dispatch all due jobs."""
        found: list[Action] = []
        while self._waiting and self._waiting[0][0] <= now:
            _, number, job = heapq.heappop(self._waiting)
            found.append(Dispatch(job, self._rows[number].server or ""))
        return found
