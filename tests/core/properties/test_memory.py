"""Laws of memory estimates."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config.settings import ModelSettings, Server
from ollama_router_core.fleet.memory.estimates import estimate_memory
from ollama_router_core.fleet.memory.formulas import kv_cache_size, predicted_vram
from ollama_router_core.fleet.memory.names import parse_size_from_name
from ollama_router_core.fleet.memory.placement import gpus_for, place_models
from ollama_router_core.fleet.snapshot import LoadedModel, ModelFacts
from support.fleets import GIB, installed, make_facts, make_fleet
from support.routing_strategies import fleets, requests

facts = st.builds(
    ModelFacts,
    architecture=st.sampled_from(["llama", "gemma3", "gptoss", "qwen2", "unheard-of"]),
    block_count=st.integers(1, 100),
    context_length=st.none() | st.integers(2048, 1 << 20),
    embedding_length=st.integers(256, 16_384),
    head_count=st.integers(1, 128),
    head_counts_kv=st.integers(1, 32).map(lambda count: (count,)),
    sliding_window=st.none() | st.integers(128, 8192),
)
contexts = st.integers(1, 1 << 18)


@given(facts, contexts, contexts, st.integers(1, 8))
def test_more_context_never_needs_less(facts, one, other, parallel):
    """The cache grows with the context, or stays."""
    small, large = sorted((one, other))
    assert kv_cache_size(facts, small, parallel=parallel) <= kv_cache_size(facts, large, parallel=parallel)
    assert predicted_vram(GIB, facts, small) <= predicted_vram(GIB, facts, large)


@given(facts, contexts, st.integers(1, 8))
def test_more_slots_never_need_less(facts, context, parallel):
    """The cache grows with the slots."""
    fewer, more = (kv_cache_size(facts, context, parallel=count) for count in (parallel, parallel + 1))
    assert fewer <= more


@given(facts, contexts, st.sampled_from(["f16", "q8_0", "q4_0"]))
def test_flash_attention_never_needs_more(facts, context, kind):
    """Without it no type of cache makes a model smaller."""
    server = make_facts("a", (installed("m", GIB, facts=facts),))

    def needs(**host):
        host = Server(host="a", num_parallel=1, **host)
        return estimate_memory("m:latest", server, make_fleet(server), ModelSettings(), num_ctx=context, host=host).size

    without = needs(kv_cache_type=kind, flash_attention=False)
    assert without == needs(kv_cache_type="f16", flash_attention=False)
    assert needs(kv_cache_type=kind) <= without


@given(facts, st.integers(1, 100 * GIB), st.integers(1, 100 * GIB), contexts)
def test_larger_files_need_more(facts, one, other, context):
    """The estimate grows with the size on disk."""
    small, large = sorted((one, other))
    sizes = []
    for size in (small, large):
        server = make_facts("a", (installed("m", size, facts=facts),))
        sizes.append(estimate_memory("m:latest", server, make_fleet(server), ModelSettings(), num_ctx=context).size)
    assert sizes[0] <= sizes[1]


@given(fleets(), requests, st.floats(0.0, 500.0))
def test_an_override_beats_everything(fleet, request, gib):
    """Whatever the servers report."""
    config, snapshot = fleet
    if request.model is None:
        return
    settings = config.models.model_copy(update={"memory_overrides": {request.model: gib}})
    for server in snapshot.servers.values():
        found = estimate_memory(request.model, server, snapshot, settings, num_ctx=request.num_ctx)
        assert found.source == "override"
        assert found.size == round(gib * GIB)


@given(st.integers(1, 999), st.sampled_from(["", "-q4_K_M", "-instruct-q8_0", "-fp16"]))
def test_the_size_in_a_name_is_read(billions, rest):
    """More parameters, more bytes; at least two bits and at most sixteen each."""
    size = parse_size_from_name(f"model:{billions}b{rest}")
    assert billions * 1e9 / 4 <= size <= billions * 2e9


gpus = st.lists(st.integers(GIB, 200 * GIB), min_size=1, max_size=8)
rows = st.tuples(st.integers(0, 100 * GIB), st.integers(0, 20 * GIB))
models = st.lists(rows, max_size=6).map(
    lambda rows: [
        LoadedModel(name=canonical_name(f"m{place}"), size=vram + rest, size_vram=vram)
        for place, (vram, rest) in enumerate(rows)
    ]
)


@given(gpus, models)
def test_models_take_what_they_take_from_the_gpus(pools, held):
    """No GPU has less than nothing or more than it has; all together have what the models leave."""
    free = place_models(pools, held).free
    assert all(0 <= left <= whole for left, whole in zip(free, pools, strict=True))
    left = max(0, sum(pools) - sum(one.size_vram for one in held))
    assert abs(sum(free) - left) <= len(pools) * (len(held) + 1) + left * 1e-9


@given(gpus, models, st.integers(1, 200 * GIB))
def test_a_model_is_on_one_gpu_or_on_all(pools, held, size):
    """On one only where that holds it."""
    free = place_models(pools, held).free
    spread = gpus_for(size, free)
    assert spread in {1, len(pools)}
    assert spread == len(pools) or size <= max(free)


@given(gpus, models, st.randoms())
def test_what_lies_where_is_the_same_in_any_order(pools, held, random):
    """Servers list what they hold in another order each time."""
    other = random.sample(held, len(held))
    assert place_models(pools, other) == place_models(pools, held)


@given(gpus, models)
def test_no_model_is_assumed_where_its_size_says_that_it_cannot_be(pools, held):
    """What no GPU holds, and what has a part on the CPU, is on all; what takes nothing of them is on none."""
    placed = {one.name: one for one in place_models(pools, held).models}
    assert placed.keys() == {one.name for one in held if one.size_vram}
    assert all(one.gpu is None or len(pools) == 1 or one.size <= pools[one.gpu] for one in placed.values())
    for one in held if len(pools) > 1 else ():
        if one.size_vram:
            assert placed[one.name].certain == (one.size_vram > max(pools))
            assert placed[one.name].gpu is None or one.size <= 1.1 * one.size_vram
