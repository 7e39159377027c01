"""One simulated server against Ollama's rules."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.server_state import ServerState
from ollama_router_core.simulation.workload import Job, SimulatedModel

SMALL = SimulatedModel(name="small:latest", billions=8, weights_gib=5)
OTHER = SimulatedModel(name="other:latest", billions=8, weights_gib=5)
LARGE = SimulatedModel(name="large:latest", billions=30, weights_gib=15)
MODELS = {model.name: model for model in (SMALL, OTHER, LARGE)}


def machine(**fields):
    """A server with 20 GiB that takes whatever fits, evicts the least recently used and loads for all that wait."""
    simple = {"eviction": "lru", "joins": True, "fit_share": 1.0, "max_loaded": None}
    return Machine(
        **{"name": "a", "vram_gib": 20, "bandwidth": 900, "tflops": 60, "load_rate": 2.0, **simple, **fields}
    )


def job(number, model=SMALL, *, at=0.0, num_ctx=None, prompt=1000, output=100):
    """One request."""
    return Job(number=number, at=at, model=model.name, prompt_tokens=prompt, output_tokens=output, num_ctx=num_ctx)


def run(jobs, **fields):
    """All jobs to their end; when each finished, and the server."""
    server = ServerState(machine(**fields), MODELS.__getitem__)
    finished, left = {}, sorted(jobs, key=lambda one: one.at)
    while left or server.in_flight:
        at = server.next_event()
        arrives = left and left[0].at <= at
        events = server.submit(left[0], left.pop(0).at) if arrives else server.advance(at)
        finished |= {one.timing.job.number: one.timing for one in events if one.kind == "finished"}
    return finished, server


def test_a_lone_request_takes_load_prefill_and_decode():
    """The formulas of the scenario, one after the other."""
    finished, server = run([job(0)])
    own = server.machine
    load, prefill, decode = own.load_seconds(SMALL), own.prefill_seconds(SMALL, 1000), own.decode_seconds(SMALL, 100)
    assert load == pytest.approx(0.5 + 1.07 * 5 / 2)
    assert finished[0].first_token == pytest.approx(load + prefill)
    assert finished[0].finished == pytest.approx(load + prefill + decode)


def test_one_slot_serves_in_order():
    """The second request of a model waits for the first."""
    finished, _ = run([job(0), job(1)])
    assert finished[1].started == pytest.approx(finished[0].finished)


def test_more_slots_run_side_by_side_and_share():
    """Two at once take 2^0.8 times as long each, less than one after the other."""
    alone, _ = run([job(0)])
    both, _ = run([job(0), job(1)], num_parallel=2)
    work = alone[0].finished - alone[0].started
    assert both[1].finished - both[1].started == pytest.approx(work * 2**0.8)


def test_loads_are_serial():
    """The second model starts to load when the first is loaded."""
    finished, server = run([job(0, SMALL), job(1, OTHER)])
    assert finished[1].started == pytest.approx(2 * server.machine.load_seconds(SMALL))
    assert server.loads == 2


def test_an_idle_model_makes_room_a_busy_one_is_waited_for():
    """The large one cannot start before the small one is done."""
    finished, server = run([job(0, SMALL), job(1, LARGE)])
    load = server.machine.load_seconds(LARGE)
    assert finished[1].started == pytest.approx(finished[0].finished + load)
    assert list(server.loaded) == [LARGE.name]
    assert server.evictions == 1


def test_the_least_recently_used_goes_first():
    """Or the first by name, as Ollama does when keep-alives are equal."""
    jobs = [job(0, SMALL), job(1, OTHER, at=50), job(2, SMALL, at=100), job(3, OTHER, at=100), job(4, SMALL, at=150)]
    jobs.append(job(5, SimulatedModel(name="large:latest", billions=30, weights_gib=12), at=200))
    MODELS["large:latest"] = SimulatedModel(name="large:latest", billions=30, weights_gib=12)
    try:
        assert set(run(jobs)[1].loaded) == {"small:latest", "large:latest"}
    finally:
        MODELS["large:latest"] = LARGE


def test_another_context_reloads():
    """Even though the model is there."""
    _, server = run([job(0, num_ctx=4096), job(1, num_ctx=8192, at=100)])
    assert server.loads == 2
    assert server.loaded[SMALL.name].context.tokens == 8192


def test_keep_alive_ends():
    """After five idle minutes nothing is loaded."""
    _, server = run([job(0)])
    assert server.next_event() == pytest.approx(server.now + 300)
    server.advance(server.next_event())
    assert not server.loaded
    assert server.next_event() == math.inf


def test_without_joining_two_models_thrash():
    """Ollama's queue of loads is strictly in order; joined, each model is loaded once."""
    jobs = [job(number, (SMALL, LARGE)[number % 2]) for number in range(6)]
    assert run(jobs, joins=True)[1].loads < run(jobs, joins=False)[1].loads == 6


def test_a_lost_machine_gives_its_jobs_back():
    """Running, waiting and loading ones, and its memory is empty."""
    server = ServerState(machine(), MODELS.__getitem__)
    for number in range(3):
        server.submit(job(number), 0.0)
    server.advance(server.next_event())
    assert {one.number for one in server.fail()} == {0, 1, 2}
    assert not server.loaded
    assert server.next_event() == math.inf


def test_beside_others_a_model_takes_at_most_a_share_of_what_is_free():
    """Ollama's rule: 80 % of 14.25 GiB is not enough for the other one at 12 GiB; alone anything is loaded."""
    jobs = [job(0, SMALL), job(1, OTHER, at=50)]
    assert len(run(jobs, fit_share=0.8, headroom=2.4, vram_gib=24)[1].loaded) == 1
    assert len(run(jobs, fit_share=1.0, headroom=2.4, vram_gib=24)[1].loaded) == 2


def test_the_number_of_models_is_limited():
    """However small they are."""
    jobs = [job(0, SMALL), job(1, OTHER, at=50)]
    assert list(run(jobs, max_loaded=1)[1].loaded) == [OTHER.name]


def test_the_next_turn_of_a_conversation_reads_what_is_new():
    """The slot still holds the turn before, until another conversation takes it."""
    turn = replace(job(0, prompt=1000, output=100), conversation="a")
    later = replace(job(1, prompt=1600, at=100), conversation="a")
    other = replace(job(2, prompt=1600, at=50), conversation="b")
    held, _ = run([turn, later])
    taken, _ = run([turn, other, later])
    assert held[1].cached == 1100
    assert taken[1].cached == 0
    assert held[1].first_token - held[1].started < taken[1].first_token - taken[1].started


def test_a_model_that_is_too_large_runs_slowly():
    """What does not fit into video memory is in main memory, where a step takes ten times as long."""
    alone = run([job(0, LARGE)])[0][0]
    partly = run([job(0, LARGE)], vram_gib=12)[0][0]
    assert partly.finished - partly.started > 2 * (alone.finished - alone.started)


def test_a_broken_model_fails_when_it_should_be_loaded():
    """And leaves the server to the others."""
    server = ServerState(machine(broken=frozenset({SMALL.name})), MODELS.__getitem__)
    server.submit(job(0), 0.0)
    (event,) = server.advance(server.next_event())
    assert (event.kind, event.timing.job.number, server.in_flight) == ("failed", 0, 0)


FREE = SimulatedModel(name="free:latest", billions=8, weights_gib=5, context_length=131_072, kv_kib=128)


def test_the_default_context_follows_from_the_memory():
    """262,144 tokens from 47 GiB on, 32,768 from 23 GiB on, else 4,096; never more than the model was made for."""
    wide = replace(FREE, context_length=1_000_000, kv_kib=0)
    chosen = [machine(vram_gib=gib).context(wide).tokens for gib in (48, 47, 46, 24, 23, 22, 8)]
    assert chosen == [262_144, 262_144, 32_768, 32_768, 32_768, 4096, 4096]
    assert machine(vram_gib=48).context(FREE).tokens == 131_072
    assert machine(vram_gib=8).context(FREE, 200_000) == (131_072, False)
    assert machine(vram_gib=8).context(FREE, 1) == (4, False)


def test_a_default_context_that_does_not_fit_is_lowered_once():
    """At 131,072 tokens it takes 5.75 + 16 GiB of cache for each of two slots, at 32,768 it takes 13.75."""
    assert machine(vram_gib=48, num_parallel=2).context(replace(FREE, weights_gib=15)).tokens == 32_768
    assert machine(vram_gib=24, num_parallel=8).context(FREE).tokens == 4096
    assert machine(vram_gib=24).need(FREE, 32_768) == pytest.approx(5.75 + 4)


def test_a_model_whose_cache_is_in_main_memory_is_slow():
    """A context that was asked for is not lowered: what does not fit is offloaded, and nobody is refused."""
    large, fits = machine(vram_gib=10), machine(vram_gib=24)
    assert large.decode_seconds(FREE, 100, 65_536) > 2 * fits.decode_seconds(FREE, 100, 65_536)
    assert large.decode_seconds(FREE, 100, 4096) == fits.decode_seconds(FREE, 100, 4096)


def context_loads(monkeypatch, first, second, model=FREE, **fields):
    """How often a model is loaded for two requests with these contexts, one after the other."""
    monkeypatch.setitem(MODELS, model.name, model)
    return run([job(0, model, num_ctx=first), job(1, model, num_ctx=second, at=100)], **fields)[1].loads


def test_a_context_that_was_chosen_is_no_default(monkeypatch):
    """Explicit against automatic loads anew in both directions, unless both are the same number."""
    assert context_loads(monkeypatch, None, 8192) == context_loads(monkeypatch, 8192, None) == 2
    assert context_loads(monkeypatch, None, 4096) == context_loads(monkeypatch, 4096, None) == 1
    assert context_loads(monkeypatch, None, None) == 1
    assert context_loads(monkeypatch, 200_000, 131_072) == 1


def test_the_mlx_runner_compares_no_contexts(monkeypatch):
    """One of safetensors is never loaded anew for another context, which takes no memory beforehand."""
    mlx = replace(FREE, name="mlx:latest", format="safetensors")
    assert context_loads(monkeypatch, 4096, 8192, mlx) == 1
    assert machine().need(mlx, 131_072) == pytest.approx(5.75)


@pytest.mark.parametrize("kind", [{"family": "qwen3vl"}, {"format": "safetensors"}, {"embeds": True}])
def test_some_models_have_one_slot(monkeypatch, kind):
    """By family, by format, and those that only embed, whatever OLLAMA_NUM_PARALLEL says."""
    model = replace(FREE, name="one:latest", **kind)
    monkeypatch.setitem(MODELS, model.name, model)
    finished, _ = run([job(0, model), job(1, model)], num_parallel=4)
    assert finished[1].started == pytest.approx(finished[0].finished)
    assert machine(num_parallel=4).slots(FREE) == 4


def test_the_victim_is_who_was_to_be_kept_for_the_shortest_time():
    """Not the least recently used; among equals the first by name."""
    kept = [replace(job(0, SMALL), keep_alive=60.0), job(1, OTHER, at=50), job(2, LARGE, at=80)]
    equal = [job(0, SMALL), job(1, OTHER, at=50), job(2, LARGE, at=80)]
    fields = {"eviction": "ollama", "vram_gib": 24}
    assert set(run(kept, **fields)[1].loaded) == {OTHER.name, LARGE.name}
    assert set(run(equal, **fields)[1].loaded) == {SMALL.name, LARGE.name}


def test_how_long_a_model_is_kept_is_what_was_said_last():
    """A request that says nothing leaves it; one that says 0 has it unloaded, below zero it stays for ever."""
    said, silent = replace(job(0), keep_alive=60.0), job(1, at=30)
    _, server = run([said, silent])
    assert server.next_event() == pytest.approx(server.now + 60)
    assert not run([replace(job(0), keep_alive=0.0)])[1].loaded
    assert run([replace(job(0), keep_alive=-1.0)])[1].next_event() == math.inf


def test_a_server_takes_whatever_comes():
    """Six hundred wait inside for one slot, in order; none is refused."""
    finished, server = run([job(number, prompt=10, output=1) for number in range(600)], joins=True)
    ends = [finished[number].finished for number in range(600)]
    assert ends == sorted(ends)
    assert server.loads == 1


def test_a_load_keeps_back_those_behind_it_and_nobody_else():
    """A request for what is loaded passes those that wait for a load, for however long."""
    jobs = [job(0, SMALL), job(1, LARGE, at=30), job(2, SMALL, at=31), job(3, OTHER, at=31)]
    finished, server = run(jobs, vram_gib=30)
    assert finished[2].started == pytest.approx(31)
    assert finished[3].started >= 30 + server.machine.load_seconds(LARGE)
