"""One GPU, several, or a part on the CPU: where a model lies, what that takes and what it costs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ollama_router_core.config.settings import ModelSettings, Server
from ollama_router_core.errors import ModelTooLarge
from ollama_router_core.fleet.capacity import Capacity
from ollama_router_core.fleet.memory.estimates import automatic_contexts, estimate_memory
from ollama_router_core.fleet.memory.placement import gpus_for, place_models, share_on_cpu
from ollama_router_core.fleet.observations import observe_ps
from ollama_router_core.fleet.snapshot import LoadedModel, ModelWeight, ServerFacts
from ollama_router_core.fleet.speeds import Sample, SpeedBook
from ollama_router_core.routing.candidates import PARTLY, kind_of, make_candidate
from ollama_router_core.routing.selector import decide
from support.fleets import (
    GIB,
    LLAMA_8B,
    LLAMA_70B,
    SIZE_8B,
    SIZE_70B,
    installed,
    loaded,
    make_config,
    make_facts,
    make_fleet,
    make_request,
)

BIG = "llama3.3:70b"
ON_DISK = (installed(BIG, SIZE_70B, facts=LLAMA_70B),)
GPU = 24 * GIB


def partly(size: int, size_vram: int) -> LoadedModel:
    """The large model in memory, a part of it on the CPU."""
    return LoadedModel(name=ON_DISK[0].name, size=size, size_vram=size_vram, context_length=4096)


def whole(sizes: list[int]) -> list[LoadedModel]:
    """Models of so many GiB, wholly in video memory."""
    return [loaded(f"m{place}", size * GIB) for place, size in enumerate(sizes)]


def free(sizes: list[int]) -> tuple[int, ...]:
    """What they leave of two GPUs."""
    return place_models([GPU, GPU], whole(sizes)).free


def test_a_model_is_on_the_gpu_with_most_free_memory_where_it_fits() -> None:
    """Two that fit one each leave something of both; a third is split over what is left."""
    assert free([18]) == (6 * GIB, GPU)
    assert free([18, 16]) == (6 * GIB, 8 * GIB)
    assert free([18, 16, 7]) == (3 * GIB, 4 * GIB)
    assert place_models([], whole([1])).free == ()


def test_which_gpu_a_model_is_on_is_assumed_unless_its_size_tells() -> None:
    """One that no GPU could hold is on both; so it is assumed of one with a part on the CPU, whatever its size."""
    small, large = loaded("small", 8 * GIB), loaded("large", 30 * GIB)
    part, away = partly(20 * GIB, 10 * GIB), replace(loaded("away", 3 * GIB), size_vram=0)
    placed = place_models([GPU, GPU], (small, large, away)).models
    assert [(one.name, one.gpu, one.certain) for one in placed] == [(large.name, None, True), (small.name, None, False)]
    placed = place_models([GPU, GPU], (small, part)).models
    assert [(one.name, one.gpu, one.certain) for one in placed] == [(part.name, None, False), (small.name, 0, False)]
    assert place_models([GPU, GPU], (part,)).free == (19 * GIB, 19 * GIB)
    (alone,) = place_models([GPU], (part,)).models
    assert (alone.gpu, alone.certain) == (0, True)


def test_what_no_single_gpu_holds_is_split_over_all() -> None:
    """Into 80 % of what is free, as Ollama has it."""
    assert gpus_for(19 * GIB, [GPU, GPU]) == 1
    assert gpus_for(20 * GIB, [GPU, GPU]) == 2
    assert gpus_for(19 * GIB, [10 * GIB, GPU]) == 1


def test_a_server_that_spreads_splits_every_model() -> None:
    """`sched_spread`: nothing is assumed then, and the buffers of each GPU count for a small model, too."""
    held = place_models([GPU, GPU], whole([4]), spread=True)
    assert [(one.gpu, one.certain) for one in held.models] == [(None, True)]
    assert held.free == (22 * GIB, 22 * GIB)
    facts = make_facts("a", (installed("llama3.1:8b", SIZE_8B, facts=LLAMA_8B),))
    config = make_config({"a": {"gpus": [24.0, 24.0], "sched_spread": True}})
    candidate = make_candidate("a", kind_of(make_request(num_ctx=4096)), make_fleet(facts), config)
    assert candidate.estimate.terms[-1].name == "compute on 2 GPUs"
    assert candidate.warm_reason.text == "not loaded, fits beside the loaded models, split over 2 GPUs"


def test_each_gpu_of_a_split_model_has_buffers_of_its_own() -> None:
    """So it takes more than on one."""
    facts = make_facts("a", ON_DISK)
    sizes = {
        gpus: estimate_memory(
            ON_DISK[0].name, facts, make_fleet(facts), ModelSettings(), num_ctx=4096, host=Server(host="a", gpus=gpus)
        )
        for gpus in ((80.0,), (24.0, 24.0), (24.0, 24.0, 24.0))
    }
    one, two, three = (estimate.terms[-1] for estimate in sizes.values())
    assert (one.name, two.name, three.name) == ("compute", "compute on 2 GPUs", "compute on 3 GPUs")
    assert (two.size, three.size) == (2 * one.size, 3 * one.size)


def test_a_small_model_is_split_where_others_take_its_place() -> None:
    """Said in words; on an empty server it is not."""
    disk = (installed("llama3.1:8b", SIZE_8B, facts=LLAMA_8B), installed("a", GIB), installed("b", GIB))
    config, kind = make_config({"a": {"gpus": [10.0, 10.0]}}), kind_of(make_request(num_ctx=4096))
    held = (loaded("a", 4 * GIB), loaded("b", 4 * GIB))
    reasons = [
        make_candidate("a", kind, make_fleet(make_facts("a", disk, there)), config).warm_reason.text
        for there in ((), held)
    ]
    assert reasons == [
        "not loaded, fits beside the loaded models",
        "not loaded, fits beside the loaded models, split over 2 GPUs",
    ]


def test_the_overhead_of_every_gpu_counts_for_the_context_that_ollama_chooses() -> None:
    """47 GiB are needed for the largest: two GPUs with half a GiB of overhead each have them, with one each not."""
    facts, name = ServerFacts(name="a"), ON_DISK[0].name
    first = [
        automatic_contexts(facts, name, Server(host="a", gpus=(24.0, 24.0), gpu_overhead_gb=each))[0]
        for each in (0.5, 1.0)
    ]
    assert first == [262_144, 32_768]


@pytest.mark.parametrize(
    ("size_vram", "seen", "share"),
    [(40, 40, 0.0), (39.5, 40, 0.0), (30, 40, 0.25), (0, 40, 1.0), (0, 0, 0.0)],
)
def test_the_share_on_the_cpu_is_what_is_not_in_video_memory(size_vram: float, seen: int, share: float) -> None:
    """None on a machine that was never seen to have any, and a sliver is none."""
    facts = make_facts("a", ON_DISK, capacity=Capacity(most=seen))
    assert share_on_cpu(facts, partly(40 * GIB, round(size_vram * GIB))) == pytest.approx(share)


class TestSpeeds:
    """What runs partly on the CPU is learned apart."""

    WHOLE, PART = ModelWeight(size=40e9, parameters=70e9), ModelWeight(size=40e9, parameters=70e9, on_cpu=0.4)
    SLOW = Sample(prompt_tokens=1000, prompt_ns=100_000_000_000, output_tokens=200, output_ns=200_000_000_000)

    def test_a_part_on_the_cpu_is_expected_to_be_slower(self) -> None:
        """By the bandwidths of both, before anything is known."""
        whole, part = (SpeedBook().expect("a", ON_DISK[0].name, one) for one in (self.WHOLE, self.PART))
        assert part.decode_rate < whole.decode_rate / 3
        assert part.prefill_rate < whole.prefill_rate / 3

    def test_it_teaches_nothing_about_the_whole_model_or_others(self) -> None:
        """And is itself known after a few answers."""
        book, name, other = SpeedBook(), ON_DISK[0].name, installed("b").name
        before = [book.expect("a", model, self.WHOLE).decode_rate for model in (name, other)]
        for _ in range(10):
            book = book.observe("a", name, self.PART, self.SLOW)
        assert [book.expect("a", model, self.WHOLE).decode_rate for model in (name, other)] == before
        assert book.expect("a", name, self.PART).decode_rate == pytest.approx(1.0, rel=0.2)


class TestLargerThanTheGpus:
    """`system_memory_gb` lets a model in that the GPUs hold only in part."""

    SMALL, LARGE = {"gpus": [24.0]}, {"gpus": [24.0, 24.0, 24.0], "priority": 2}
    REQUEST = make_request(BIG, num_ctx=4096)

    def test_without_it_the_server_is_refused(self) -> None:
        """As before: its GPUs are its limit."""
        fleet = make_fleet(make_facts("a", ON_DISK))
        assert isinstance(decide(self.REQUEST, fleet, make_config({"a": self.SMALL}), now=0.0).error, ModelTooLarge)

    def test_with_it_the_server_comes_after_all_that_hold_it_whole(self) -> None:
        """Whatever its priority."""
        fleet = make_fleet(make_facts("a", ON_DISK), make_facts("b", ON_DISK))
        config = make_config({"a": {**self.SMALL, "system_memory_gb": 64.0}, "b": self.LARGE})
        assert decide(self.REQUEST, fleet, config, now=0.0).ranking == ("b", "a")

    def test_it_says_so_and_is_expected_to_be_slow(self) -> None:
        """The share that would run on the CPU."""
        fleet = make_fleet(make_facts("a", ON_DISK))
        config = make_config({"a": {**self.SMALL, "system_memory_gb": 64.0}})
        candidate = make_candidate("a", kind_of(self.REQUEST), fleet, config)
        assert candidate.health_tier == PARTLY
        assert candidate.weight.on_cpu == pytest.approx(1 - 24 * GIB / candidate.size)
        (verdict,) = decide(self.REQUEST, fleet, config, now=0.0).verdicts
        assert "of the model would run on the CPU" in verdict.text

    def test_what_was_partly_on_the_cpu_is_expected_to_be_so_again(self) -> None:
        """Also once it is gone, though it took no more video memory than there is; until it is seen to be whole."""
        listed = b'{"models": [{"name": "llama3.3:70b", "size": %d, "size_vram": %d, "context_length": 4096}]}'
        facts = make_facts("a", ON_DISK)
        config = make_config({"a": {**self.SMALL, "system_memory_gb": 64.0}})
        shares = []
        for body in (
            listed % (44 * GIB, 22 * GIB),
            b'{"models": []}',
            listed % (22 * GIB, 22 * GIB),
            b'{"models": []}',
        ):
            facts = observe_ps(facts, body, now=1.0, wall=0.0)
            shares.append(make_candidate("a", kind_of(self.REQUEST), make_fleet(facts), config).weight.on_cpu)
        assert shares == [0.5, 0.5, 0.0, 0.0]
