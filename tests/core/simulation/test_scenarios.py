"""Whole simulations: deterministic, complete, and the promises about routing on a slice of the trace."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from ollama_router_core.errors import ConfigError
from ollama_router_core.simulation.baselines import BASELINES
from ollama_router_core.simulation.comparison import ROUTERS, bound, compare
from ollama_router_core.simulation.engine import Slowdown, simulate
from ollama_router_core.simulation.fleet_file import parse_fleet
from ollama_router_core.simulation.report import percentile, summarise, table
from ollama_router_core.simulation.routers import Knowledge
from ollama_router_core.simulation.scenarios import FLEET, MODELS, make_scenario
from ollama_router_core.simulation.workload import assign_models, parse_trace

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

    def test_a_trace_without_a_header_is_read_from_its_first_line(self):
        """No request is taken for one."""
        assert len(parse_trace("10,1,1\n12,1,1\n")) == 2

    def test_models_and_users_may_be_named(self):
        """A model that is named is not drawn."""
        first, second = parse_trace("t,p,o,m,u\n0,1,1,8b,ada\n1,1,1\n")
        assert (first.model, first.user, second.model, second.user) == ("8b", "ada", "", "")
        (job, _) = assign_models([first, second], MODELS, [0.0, *[1.0] * 11], random.Random(1))  # noqa: S311
        assert (job.model, job.user) == ("8b:latest", "ada")

    def test_another_form_is_an_error(self):
        """Not a guess; the text names the line and what belongs there."""
        with pytest.raises(ValueError, match="line 3: expected time, prompt tokens, output tokens, got '1,many,1'"):
            parse_trace("t,p,o\n0,1,1\n1,many,1\n")
        with pytest.raises(ValueError, match="line 2"):
            parse_trace("t,p\n1,2\n")

    @pytest.mark.parametrize("first", ["0.0,abc,20", "0.0,20", "2023-11-16 18:17:03,-1,20", "\ufeff0.0,abc,20"])
    def test_a_first_line_that_begins_with_a_time_is_no_header(self, first):
        """It is an error like any other line, not left out."""
        with pytest.raises(ValueError, match="line 1: expected"):
            parse_trace(f"{first}\n1,10,20\n")

    def test_a_header_may_follow_empty_lines(self):
        """As an editor leaves them."""
        assert len(parse_trace("\n\nt,p,o\n1,10,20\n")) == 1


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
    scenario = make_scenario("C", part(150), stretch=12)
    runs = [simulate(ROUTERS[name](FLEET, Knowledge()), FLEET, MODELS, scenario.jobs) for _ in range(2)]
    assert len(runs[0].outcomes) == len(scenario.jobs)
    assert runs[0].refused == 0
    assert [one.finished for one in runs[0].outcomes] == [one.finished for one in runs[1].outcomes]
    assert all(one.job.at <= one.sent <= one.first_token <= one.finished for one in runs[0].outcomes)


@pytest.mark.parametrize("name", ["least connections", "fastest"])
def test_jobs_of_a_lost_server_are_done_elsewhere(name):
    """They arrive again, and nothing runs on the lost server meanwhile."""
    scenario = make_scenario("B", part(400), stretch=8)
    (outage,) = scenario.outages
    result = simulate(ROUTERS[name](FLEET, Knowledge()), FLEET, MODELS, scenario.jobs, outages=scenario.outages)
    assert len(result.outcomes) == len(scenario.jobs)
    during = [one for one in result.outcomes if outage.start < one.finished < outage.start + outage.seconds]
    assert during
    assert not [one for one in during if one.server == outage.server]


@pytest.mark.parametrize(("scenario", "share"), [("A", 0.6), ("C", 0.75)])
def test_fastest_beats_the_best_baseline(scenario, share):
    """A slice of the trace, with nothing known beforehand; nobody starves."""
    part_of_it = make_scenario(scenario, part(1200), stretch=8)
    summaries = {one.router: one for one in compare(part_of_it, [*BASELINES, "fastest"])}
    ours = summaries.pop("fastest")
    assert ours.ttft_p95 <= share * min(one.ttft_p95 for one in summaries.values())
    assert ours.ttft_p50 <= share * min(one.ttft_p50 for one in summaries.values())
    assert ours.ttft_max <= 3 * summaries["least connections"].ttft_p99


def test_the_table_has_a_column_for_each_router():
    """Its counts, seconds, and those of each model; a model that one of them did not see is a dash."""
    scenario = make_scenario("A", part(20))
    summary = summarise(simulate(BASELINES["random"](), FLEET, MODELS, scenario.jobs))
    lines = table([summary, replace(summary, router="other", models={})]).splitlines()
    assert lines[0].split() == ["random", "other"]
    assert lines[1].split() == ["requests", "20", "20"]
    assert lines[-1].split()[0] == "p95"
    assert lines[-1].split()[-1] == "-"


class TestRefusals:
    """Who is turned away is part of the picture."""

    def test_they_are_counted_by_reason_and_model_and_with_their_wait(self):
        """A queue for nobody: whoever would wait is refused, and counts as having waited for as long as it might."""
        knows = Knowledge(settings={"queue": {"max_waiting": 0, "max_wait": 40.0}})
        scenario = replace(make_scenario("A", part(60)), knowledge=knows)
        (summary,) = compare(scenario, ["fastest"])
        assert summary.refused == summary.refusals["overloaded"] == sum(summary.refused_models.values()) > 0
        assert summary.ttft_p95 == 40.0
        assert summary.requests == 60

    def test_what_fits_nowhere_is_refused(self):
        """At once, with the error's code."""
        small = tuple(one for one in FLEET if one.vram_gib < 24)
        scenario = replace(make_scenario("A", part(60)), machines=small)
        (summary,) = compare(scenario, ["least_loaded"])
        assert set(summary.refusals) == {"model_not_found"}

    def test_a_queue_with_equal_deadlines_ends(self):
        """The tick that a wait ends with ends it, whatever floating point makes of the sum."""
        knows = Knowledge(settings={"queue": {"max_wait": 0.1 + 0.2}})
        scenario = replace(make_scenario("A", part(100), stretch=1), knowledge=knows)
        (summary,) = compare(scenario, ["fastest"])
        assert summary.requests == 100


class TestKnowledge:
    """What a router is told, and what it has to find out."""

    def test_a_fleet_of_which_nothing_is_told_is_nearly_as_fast(self):
        """What memory holds is learned from what `/api/ps` shows."""
        scenario = make_scenario("A", part(1000), stretch=8)
        told = {one.name: {"max_memory_gb": one.vram_gib} for one in FLEET}
        (knows,) = compare(replace(scenario, knowledge=Knowledge(servers=told)), ["fastest"])
        (learns,) = compare(scenario, ["fastest"])
        assert learns.ttft_p95 <= 1.5 * knows.ttft_p95

    def test_a_broken_model_is_served_elsewhere(self):
        """A failed load is the next server's."""
        machines = tuple(replace(one, broken=frozenset({"8b:latest"} if one.name == "mid1" else ())) for one in FLEET)
        scenario = replace(make_scenario("A", part(200), stretch=12), machines=machines)
        (summary,) = compare(scenario, ["fastest"])
        assert summary.refused == 0

    def test_a_slow_server_finishes_later(self):
        """Everything takes so much longer while it is slow."""
        scenario = make_scenario("A", part(100), stretch=20)
        slow = tuple(Slowdown(server=one.name, start=0.0, seconds=1e6, factor=3.0) for one in FLEET)
        (usual,) = compare(scenario, ["fastest"])
        (slowed,) = compare(replace(scenario, slowdowns=slow), ["fastest"])
        assert slowed.ttft_p50 > 2 * usual.ttft_p50


def test_the_bound_is_below_every_router():
    """With every model always loaded, true speeds and lengths."""
    scenario = make_scenario("A", part(300), stretch=8)
    best = bound(scenario)
    assert all(best.ttft_p95 < one.ttft_p95 for one in compare(scenario, ["least_loaded", "fastest"]))
