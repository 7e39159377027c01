"""A batch beside people, in virtual time: whatever comes when, it takes what they leave."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_router_core.simulation.engine import Outcome, simulate
from ollama_router_core.simulation.routers import Knowledge, StrategyRouter
from ollama_router_core.simulation.scenarios import MODELS
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import Job, SimulatedModel

SMALL, LARGE = (next(one for one in MODELS if one.name == name) for name in ("8b:latest", "27b:latest"))
"""A server of 24 GiB holds one of them at a time."""
PROMPT, ANSWER = 300, 150
EXAMPLES = settings(max_examples=settings.default.max_examples // 3)

gaps = st.lists(st.sampled_from([0.0, 0.5, 3.0, 20.0]), min_size=1, max_size=12)
batches = st.lists(st.tuples(st.sampled_from([0.0, 0.2, 4.0]), st.integers(10, 600)), min_size=1, max_size=25)


def served(
    machines: Sequence[Machine],
    waits: Sequence[float],
    batch: Sequence[tuple[float, int]],
    model: SimulatedModel,
    *,
    told: bool,
) -> list[Outcome]:
    """Who was served when: people for the small model from 30 s on, a batch for a model from the start."""
    jobs, at = [], 30.0
    for wait in waits:
        at += wait
        jobs.append((at, SMALL, ANSWER, False))
    at = 0.0
    for wait, tokens in batch:
        at += wait
        jobs.append((at, model, tokens, True))
    made = [
        Job(number=number, at=at, model=one.name, prompt_tokens=PROMPT, output_tokens=tokens, user="u", batch=late)
        for number, (at, one, tokens, late) in enumerate(sorted(jobs, key=lambda job: job[0]))
    ]
    knows = Knowledge(
        servers={one.name: {"num_parallel": one.num_parallel} for one in machines} if told else {},
        settings={"queue": {"max_wait": 36_000.0}},
    )
    return list(simulate(StrategyRouter("fastest", machines, knowledge=knows), machines, [SMALL, LARGE], made).outcomes)


def fleet(count: int, slots: int) -> list[Machine]:
    """Equal servers of 24 GiB."""
    return [
        Machine(name=f"s{n}", vram_gib=24, bandwidth=900, tflops=60, load_rate=2.0, num_parallel=slots)
        for n in range(count)
    ]


@EXAMPLES
@given(waits=gaps, batch=batches, count=st.integers(1, 3), slots=st.integers(1, 2), told=st.booleans())
def test_nothing_of_a_batch_is_sent_where_somebody_waits_for_the_server(waits, batch, count, slots, told):
    """Not for a model that has to leave the memory either, however many servers there are and people wait.

    So whoever waits does so for what ran or loaded when they came: of one slot, for one answer of the batch at most.
    """
    outcomes = served(fleet(count, slots), waits, batch, LARGE, told=told)
    assert len(outcomes) == len(waits) + len(batch)
    for person in [one for one in outcomes if not one.job.batch]:
        beside = [one for one in outcomes if one.job.batch and one.server == person.server and one.sent < person.sent]
        assert not [one for one in beside if one.sent > person.job.at]
        assert len([one for one in beside if one.finished > person.job.at]) <= slots


@EXAMPLES
@given(waits=gaps, batch=batches, told=st.booleans())
def test_people_wait_for_one_running_answer_of_a_batch_at_most(waits, batch, told):
    """With one slot and one model: as long as without the batch, and the longest of its answers."""
    machines = fleet(1, 1)
    beside = [one for one in served(machines, waits, batch, SMALL, told=told) if not one.job.batch]
    alone = served(machines, [0.0, 30.0 + waits[0], *waits[1:]], [], SMALL, told=told)[1:]
    longest = max(tokens for _, tokens in batch)
    answer = machines[0].prefill_seconds(SMALL, PROMPT) + machines[0].decode_seconds(SMALL, longest)
    for with_it, without in zip(beside, alone, strict=True):
        assert with_it.ttft - without.ttft <= answer + 0.01
