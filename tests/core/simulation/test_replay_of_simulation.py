"""The log of a simulation, replayed: in the log's own world requests take as long as they took."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation.engine import Action, simulate
from ollama_router_core.simulation.replay import replay
from ollama_router_core.simulation.residency import Event, Timing
from ollama_router_core.simulation.routers import StrategyRouter
from ollama_router_core.simulation.scenarios import MODELS
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import Arrival, assign_models


class Logging(StrategyRouter):
    """`fastest`, with the rows that a router would have written."""

    rows: list[RequestRecord]

    def observe(self, server: str, event: Event, now: float) -> Iterable[Action]:
        """Write a row for each answer that is over."""
        if event.kind == "finished" and event.timing is not None:
            self.rows.append(row(server, event.timing))
        return super().observe(server, event, now)


def row(server: str, timing: Timing) -> RequestRecord:
    """What the log has of an answer."""
    job, first, end = timing.job, timing.first_token, timing.finished
    return RequestRecord(
        id=str(job.number), started_at=job.at, user=job.user, client=None, method="POST", path="/api/chat",
        model_asked=job.model, model_served=job.model, server=server, status=200, streamed=True,
        queue_ms=(timing.sent - job.at) * 1000, ttft_ms=(first - job.at) * 1000, total_ms=(end - job.at) * 1000,
        load_ms=timing.load_wait * 1000, prefill_ms=(first - timing.started) * 1000, decode_ms=(end - first) * 1000,
        prompt_tokens=job.prompt_tokens, completion_tokens=job.output_tokens,
    )  # fmt: skip


@pytest.mark.parametrize("slots", [1, 2])
def test_the_log_of_a_simulation_takes_as_long_as_it_took(slots: int) -> None:
    """Two busy servers of which nobody told slots: the middle and the far end are within a tenth of the log's."""
    rng = random.Random(1)  # noqa: S311 - seeded on purpose, nothing secret
    machines = [Machine(name=f"m{number}", vram_gib=24, bandwidth=900, tflops=60, load_rate=2.0, num_parallel=slots)
                for number in range(2)]  # fmt: skip
    arrivals = [Arrival(at=1.5 * n, prompt_tokens=rng.randint(200, 3000), output_tokens=rng.randint(20, 400))
                for n in range(200)]  # fmt: skip
    models = MODELS[:3]
    router = Logging("fastest", machines)
    router.rows = []
    simulate(router, machines, models, assign_models(arrivals, models, [4, 2, 1], rng))
    servers = {one.name: {"host": one.name, "max_memory_gb": one.vram_gib} for one in machines}
    config = Config.model_validate({"routing_strategy": "fastest", "servers": servers})
    found = replay(router.rows, FleetSnapshot(), config)
    logged, told = found.logged.summary, found.to_json()
    assert logged.completion_p50 == pytest.approx(told["measured_p50"], rel=0.1)
    assert logged.completion_p95 == pytest.approx(told["measured_p95"], rel=0.1)
