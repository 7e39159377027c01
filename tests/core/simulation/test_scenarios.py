"""Whole simulations: deterministic, complete, and the promises about routing on a slice of the trace."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ollama_router_core.errors import ConfigError
from ollama_router_core.simulation import (
    BASELINES,
    FLEET,
    MODELS,
    ROUTERS,
    compare,
    make_scenario,
    parse_fleet,
    parse_trace,
    percentile,
    simulate,
    summarise,
    table,
)

TRACE = Path(__file__).parents[3] / "benchmarks" / "data" / "azure_llm_2023_code.csv"


def part(lines: int) -> str:
    """The first lines of the trace."""
    return "\n".join(TRACE.read_text(encoding="utf-8").splitlines()[: lines + 1])


class TestTrace:
    """Text to values."""

    def test_reads_iso_times_with_seven_digits(self):
        """Seconds since the first arrival."""
        arrivals = parse_trace("T,C,G\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:05.0,5,6\n")
        assert [one.at for one in arrivals] == pytest.approx([0.0, 1.02004])
        assert (arrivals[0].prompt_tokens, arrivals[0].output_tokens) == (4808, 10)

    def test_seconds_and_stretch(self):
        """A quarter of the load."""
        assert [one.at for one in parse_trace("t,p,o\n10,1,1\n12,1,1\n", stretch=4)] == [0.0, 8.0]

    def test_another_form_is_an_error(self):
        """Not a guess; the text names the line and what belongs there."""
        with pytest.raises(ValueError, match="line 3: expected time, prompt tokens, output tokens, got '1,many,1'"):
            parse_trace("t,p,o\n0,1,1\n1,many,1\n")
        with pytest.raises(ValueError, match="line 2"):
            parse_trace("t,p\n1,2\n")


class TestFleetFile:
    """An operator's own fleet."""

    def test_values_become_machines_and_models(self):
        """With canonical names."""
        values = {
            "servers": {"big": {"vram_gb": 48, "bandwidth": 900, "tflops": 80, "load_rate": 3.0}},
            "models": {"Llama3": {"billions": 8, "weights_gb": 4.7}},
        }
        machines, models = parse_fleet(values)
        assert (machines[0].name, machines[0].vram_gib, models[0].name) == ("big", 48.0, "llama3:latest")

    def test_problems_are_named(self):
        """Each with its place."""
        with pytest.raises(ConfigError, match=r"servers\.big\.vram_gb") as error:
            parse_fleet({"servers": {"big": {"vram_gb": -1}}, "models": {}})
        assert "models" in str(error.value)


def test_percentile_is_a_value_that_occurred():
    """The smallest that enough are not above."""
    assert [percentile([3.0, 1.0, 2.0, 4.0], share) for share in (0.5, 0.95, 1.0)] == [2.0, 4.0, 4.0]
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize("name", list(ROUTERS))
def test_every_job_ends_and_the_same_seed_gives_the_same_result(name):
    """Nobody is lost under any router, and nothing depends on anything but the arguments."""
    scenario = make_scenario("C", part(150))
    runs = [simulate(ROUTERS[name](FLEET), FLEET, MODELS, scenario.jobs) for _ in range(2)]
    assert len(runs[0].outcomes) == len(scenario.jobs)
    assert runs[0].refused == 0
    assert [one.finished for one in runs[0].outcomes] == [one.finished for one in runs[1].outcomes]
    assert all(one.job.at <= one.sent <= one.first_token <= one.finished for one in runs[0].outcomes)


@pytest.mark.parametrize("name", ["least connections", "fastest"])
def test_jobs_of_a_lost_server_are_done_elsewhere(name):
    """They arrive again, and nothing runs on the lost server meanwhile."""
    scenario = make_scenario("B", part(400))
    (outage,) = scenario.outages
    result = simulate(ROUTERS[name](FLEET), FLEET, MODELS, scenario.jobs, outages=scenario.outages)
    assert len(result.outcomes) == len(scenario.jobs)
    during = [one for one in result.outcomes if outage.start < one.finished < outage.start + outage.seconds]
    assert during
    assert not [one for one in during if one.server == outage.server]


@pytest.mark.parametrize(("scenario", "share"), [("A", 0.42), ("C", 0.5)])
def test_fastest_beats_the_best_baseline(scenario, share):
    """A slice of the benchmark, with its promise about the 95th percentile and the median; nobody starves."""
    summaries = {one.router: one for one in compare(make_scenario(scenario, part(1200)), [*BASELINES, "fastest"])}
    ours = summaries.pop("fastest")
    assert ours.ttft_p95 <= share * min(one.ttft_p95 for one in summaries.values())
    assert ours.ttft_p50 <= share * min(one.ttft_p50 for one in summaries.values())
    assert ours.ttft_max <= 3 * summaries["least connections"].ttft_p99


def test_the_table_has_a_line_for_each_router():
    """With its numbers under their titles."""
    scenario = make_scenario("A", part(20))
    result = simulate(BASELINES["random"](), FLEET, MODELS, scenario.jobs)
    head, line = table([summarise(result)]).splitlines()
    assert head.split()[:3] == ["router", "requests", "refused"]
    assert line.split()[:3] == ["random", "20", "0"]
