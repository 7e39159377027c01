"""Preemption in virtual time: what people gain, what the batch loses."""

from __future__ import annotations

import pytest

from ollama_router_core.simulation.engine import simulate
from ollama_router_core.simulation.routers import Knowledge, StrategyRouter
from ollama_router_core.simulation.scenarios import MODELS
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.server_state import ServerState
from ollama_router_core.simulation.workload import Job

MACHINE = Machine(name="only", vram_gib=24, bandwidth=900, tflops=60, load_rate=2.0)
MODEL = next(one for one in MODELS if one.name == "8b:latest")


def job(number: int, at: float, **fields: object) -> Job:
    """A request of 500 tokens for 200."""
    own = {"prompt_tokens": 500, "output_tokens": 200, "user": "u", **fields}
    return Job(number=number, at=at, model=MODEL.name, **own)  # type: ignore[arg-type]


def waits(preemptions: int, *, streamed: bool) -> tuple[float, int]:
    """The longest time to a first token of somebody beside a batch, and how many requests were sent twice."""
    batch = [job(number, 0.0, user="batch", batch=True, streamed=streamed) for number in range(40)]
    people = [job(40 + number, 30.0 + number * 9.0) for number in range(5)]
    knows = Knowledge(
        servers={"only": {"num_parallel": 1}}, settings={"queue": {"max_preemptions": preemptions, "max_wait": 3600.0}}
    )
    result = simulate(StrategyRouter("fastest", [MACHINE], knowledge=knows), [MACHINE], [MODEL], [*batch, *people])
    assert len(result.outcomes) == 45
    return max(one.ttft for one in result.outcomes if not one.job.batch), sum(one.tries - 1 for one in result.outcomes)


def test_people_go_before_answers_that_nobody_has_a_byte_of() -> None:
    """They wait for nothing but their own prompt, and each of the five costs one answer that is begun again."""
    (without, none), (with_it, again) = waits(0, streamed=False), waits(2, streamed=False)
    assert with_it < without / 5
    assert (none, again) == (0, 5)


def test_a_stream_that_has_begun_is_waited_for() -> None:
    """There is little to gain where a prompt is read within half a second."""
    assert waits(2, streamed=True)[0] == pytest.approx(waits(0, streamed=True)[0], abs=1.0)


def test_a_cancelled_request_leaves_its_slot_to_the_next() -> None:
    """One that runs, one that waits in Ollama, and one whose model is on its way."""
    server = ServerState(MACHINE, lambda _: MODEL)
    jobs = [job(number, 0.0) for number in range(3)]
    for one in jobs:
        server.submit(one, 0.0)
    server.cancel(jobs[0], 1.0)  # it was loading: the next loads anew
    assert server.loading is not None
    while server.loading is not None:
        server.advance(server.next_event())
    (held,) = server.loaded.values()
    assert [one.job.number for one in held.running] == [1]
    server.cancel(jobs[1], server.now)
    while not (events := server.advance(server.next_event())) or events[-1].kind != "finished":
        pass
    assert (events[-1].timing and events[-1].timing.job.number, server.in_flight) == (2, 0)
