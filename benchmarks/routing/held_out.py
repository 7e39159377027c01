"""Does `fastest` win elsewhere than where it was tuned? `python benchmarks/routing/held_out.py`.

The constants of `admission` were chosen on scenario A: the whole trace, models drawn with seed 1, two loads. Here it
is judged on what was not looked at then: other draws of the models, another order of popularity, the two halves of the
hour, a made-up trace of conversations (longer answers, no bursts of seconds), another fleet. One row each: the time
to first token of `fastest` over the best baseline's, and the longest wait over three times the 99th percentile of
least connections.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ollama_router_core.simulation import (
    BASELINES,
    FLEET,
    MODELS,
    Arrival,
    Scenario,
    assign_models,
    compare,
    make_scenario,
    parse_trace,
    zipf_weights,
)

TRACE = Path(__file__).parent.parent / "data" / "azure_llm_2023_code.csv"


def conversations(count: int, rate: float, seed: int) -> tuple[Arrival, ...]:
    """Poisson arrivals; prompts of 1,000 tokens and answers of 200 in the median, with long tails."""
    rng = random.Random(seed)
    at, found = 0.0, []
    for _ in range(count):
        at += rng.expovariate(rate)
        prompt, output = min(8000, round(rng.lognormvariate(6.9, 1.0))), min(2000, round(rng.lognormvariate(5.3, 0.7)))
        found.append(Arrival(at=at, prompt_tokens=max(1, prompt), output_tokens=max(1, output)))
    return tuple(found)


def drawn(name: str, arrivals: tuple[Arrival, ...], *, seed: int, backwards: bool = False) -> Scenario:
    """A scenario on the fleet of A."""
    models = MODELS[::-1] if backwards else MODELS
    rng = random.Random(seed)
    jobs = assign_models(arrivals, models, zipf_weights(len(models)), rng)
    return Scenario(name=name, machines=FLEET, models=MODELS, jobs=jobs)


def scenarios(trace: str) -> Iterator[Scenario]:
    """What nothing was tuned on, and first what it was tuned on."""
    for stretch in (4.0, 8.0):
        yield replace(make_scenario("A", trace, stretch=stretch), name=f"tuned on: stretch {stretch:g}")
    for seed in (2, 3):
        for stretch in (4.0, 8.0):
            yield replace(
                make_scenario("A", trace, stretch=stretch, seed=seed),
                name=f"models of seed {seed}, stretch {stretch:g}",
            )
    arrivals = parse_trace(trace, stretch=6.0)
    middle = len(arrivals) // 2
    yield drawn("first half of the hour, stretch 6", arrivals[:middle], seed=4)
    yield drawn("second half of the hour, stretch 6", tuple(_from_zero(arrivals[middle:])), seed=5)
    yield drawn("large models the most popular, stretch 16", parse_trace(trace, stretch=16.0), seed=6, backwards=True)
    for number, rate in enumerate((0.6, 0.3, 0.15)):
        yield drawn(f"conversations, {rate:g}/s", conversations(4000, rate, 17 + number), seed=17 + number)
    small = tuple(replace(one, name=f"{one.name}{n}") for n in (1, 2) for one in FLEET if one.vram_gib == 24)
    models = tuple(model for model in MODELS if small[0].holds(model))
    jobs = assign_models(arrivals, models, zipf_weights(len(models)), random.Random(9))
    yield Scenario(name="four servers of 24 GiB, stretch 6", machines=small, models=models, jobs=jobs)


def _from_zero(arrivals: tuple[Arrival, ...]) -> Iterator[Arrival]:
    return (replace(one, at=one.at - arrivals[0].at) for one in arrivals)


def main() -> None:
    """Run and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| | p50, s | of the best | p95, s | of the best | longest of 3 x p99 |\n|---|---|---|---|---|---|")
    for scenario in scenarios(TRACE.read_text(encoding="utf-8")):
        summaries = {one.router: one for one in compare(scenario, [*BASELINES, "fastest"])}
        ours, baselines = summaries["fastest"], [summaries[name] for name in BASELINES]
        p50 = ours.ttft_p50 / min(one.ttft_p50 for one in baselines)
        p95 = ours.ttft_p95 / min(one.ttft_p95 for one in baselines)
        longest = ours.ttft_max / (3 * summaries["least connections"].ttft_p99)
        cells = (f"{ours.ttft_p50:.1f}", f"{p50:.2f}", f"{ours.ttft_p95:.1f}", f"{p95:.2f}", f"{longest:.2f}")
        print(f"| {scenario.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
