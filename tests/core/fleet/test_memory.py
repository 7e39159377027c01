"""Memory of models: the formulas against worked examples, and which source is believed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config.settings import ModelSettings, Server
from ollama_router_core.fleet.memory.estimates import MemoryEstimate, automatic_contexts, estimate_memory
from ollama_router_core.fleet.memory.formulas import (
    compute_buffer_size,
    effective_context,
    kv_cache_size,
    predicted_vram,
)
from ollama_router_core.fleet.memory.names import parse_active_parameters, parse_size_from_name
from ollama_router_core.fleet.snapshot import ModelFacts
from support.fleets import (
    GIB,
    LLAMA_8B,
    LLAMA_70B,
    SIZE_8B,
    SIZE_70B,
    installed,
    loaded,
    make_facts,
    make_fleet,
)

MIB = 1024**2
GEMMA3_12B = ModelFacts(
    architecture="gemma3", block_count=48, context_length=131_072, embedding_length=3840, head_count=16,
    head_counts_kv=(8,), key_length=256, value_length=256, sliding_window=1024, vocabulary=262_144,
)  # fmt: skip
GPT_OSS_20B = ModelFacts(
    architecture="gptoss", block_count=24, context_length=131_072, embedding_length=2880, head_count=64,
    head_counts_kv=(8,), key_length=64, value_length=64, sliding_window=128, vocabulary=201_088,
)  # fmt: skip


def about(expected: float) -> object:
    """Within one per cent."""
    return pytest.approx(expected, rel=0.01)


class TestFormulas:
    """Worked examples of Ollama's own formulas, to one per cent."""

    @pytest.mark.parametrize(
        ("facts", "context", "parallel", "element", "gib"),
        [
            (LLAMA_8B, 8192, 1, 2.0, 1.0),
            (LLAMA_8B, 8192, 1, 1.0, 0.5),
            (LLAMA_8B, 8192, 4, 2.0, 4.0),
            (LLAMA_70B, 8192, 1, 2.0, 2.5),
            (LLAMA_70B, 32_768, 1, 2.0, 10.0),
            (LLAMA_70B, 32_768, 4, 2.0, 40.0),
            (GEMMA3_12B, 32_768, 1, 2.0, 2.47),
            (replace(GEMMA3_12B, sliding_window=None), 32_768, 1, 2.0, 12.0),
            (GPT_OSS_20B, 32_768, 1, 2.0, 0.86),
        ],
    )
    def test_kv_cache(self, facts, context, parallel, element, gib):
        """Layers x context x heads x width; windowed layers hold a window only."""
        assert kv_cache_size(facts, context, parallel=parallel, element_bytes=element) == about(gib * GIB)

    @pytest.mark.parametrize(
        ("facts", "flash", "mib"),
        [(LLAMA_8B, False, 560.0), (LLAMA_8B, True, 258.5), (LLAMA_70B, False, 1104.0), (LLAMA_70B, True, 266.5)],
    )
    def test_compute_buffers(self, facts, flash, mib):
        """With flash attention only the output layer counts."""
        assert compute_buffer_size(facts, 8192, flash_attention=flash) == about(mib * MIB)

    @pytest.mark.parametrize(("facts", "size", "gib"), [(LLAMA_8B, SIZE_8B, 5.58), (LLAMA_70B, SIZE_70B, 42.10)])
    def test_what_ollama_predicts(self, facts, size, gib):
        """The number it compares with 80 % of free VRAM."""
        assert predicted_vram(size, facts, 8192) == about(gib * GIB)

    def test_context_beyond_the_model_is_clamped(self):
        """A server clamps num_ctx to what the model was made for."""
        small = replace(LLAMA_8B, context_length=8192)
        assert kv_cache_size(small, 1_000_000) == kv_cache_size(LLAMA_8B, 8192)

    def test_recurrent_layers_do_not_grow(self):
        """A layer without attention heads holds a state of fixed size."""
        hybrid = replace(
            LLAMA_8B, head_counts_kv=(0, 8), block_count=2, ssm_conv_kernel=4, ssm_inner_size=8192, ssm_state_size=128,
            ssm_group_count=8,
        )  # fmt: skip
        state = ((4 - 1) * (8192 + 2 * 8 * 128) + 128 * 8192) * 4
        assert kv_cache_size(hybrid, 4096) == 4096 * 256 * 8 * 2 + state
        assert kv_cache_size(hybrid, 8192) == 8192 * 256 * 8 * 2 + state

    @pytest.mark.parametrize(
        ("architecture", "terms"),
        [
            ("llama", 1 + 4 * 64 + 4096 * (1 + 4)),
            ("qwen3", 1 + 2 * 64 + 4096 + 4096 * 4),
            ("gemma3", 2 + 4096 + 4096 * 4 + 2 * 64 + 2 * (64 // 4) * 4),
        ],
    )
    def test_attention_without_flash_has_a_formula_for_each_family(self, architecture, terms):
        """Four bytes for each of 512 tokens of a batch and each term of Ollama's GraphSize, to the byte."""
        facts = ModelFacts(architecture=architecture, embedding_length=64, head_count=4, vocabulary=100)
        assert compute_buffer_size(facts, 1024, parallel=4, flash_attention=False) == 4 * 512 * terms

    def test_keys_of_their_own_length_count_in_gemmas_attention(self):
        """Where the file says how long a key is, the width by heads does not."""
        facts = ModelFacts(architecture="gemma3", embedding_length=64, head_count=4, key_length=32, vocabulary=100)
        terms = 2 + 1024 + 1024 * 4 + 2 * 64 + 2 * 32 * 4
        assert compute_buffer_size(facts, 1024, flash_attention=False) == 4 * 512 * terms

    @pytest.mark.parametrize(
        ("architecture", "vocabulary"), [("qwen2", 151_936), ("gemma2", 262_144), ("llama", 128_256), (None, 128_256)]
    )
    def test_a_vocabulary_that_is_not_told_is_the_familys_usual_one(self, architecture, vocabulary):
        """The output layer is 4 bytes for each token of a batch and each of its words and dimensions."""
        facts = ModelFacts(architecture=architecture, embedding_length=64, head_count=4)
        assert compute_buffer_size(facts, 8192) == 4 * 512 * (64 + vocabulary)
        assert compute_buffer_size(facts, 100) == 4 * 100 * (64 + vocabulary)

    def test_a_window_holds_its_tokens_and_a_batch_for_each_slot(self):
        """Every other layer of Gemma 2 sees everything; the rest never hold more than that."""
        facts = ModelFacts(
            architecture="gemma2", head_counts_kv=(1, 3, 1, 3), key_length=8, value_length=24, sliding_window=1000
        )
        full, window = 4096 * 3, 3 * 1000 + 512
        assert kv_cache_size(facts, 4096, parallel=3) == (2 * window + 6 * full) * 32 * 2
        assert kv_cache_size(facts, 1024) == 8 * 1024 * 32 * 2

    def test_the_last_of_six_layers_of_gemma_3_sees_everything(self):
        """Counted from the first."""
        facts = replace(GEMMA3_12B, head_counts_kv=(1, 1, 1, 1, 1, 7))
        assert kv_cache_size(facts, 32_768) == (7 * 32_768 + 5 * (1024 + 512)) * 512 * 2

    @pytest.mark.parametrize("architecture", ["llama", None])
    def test_a_window_of_an_unknown_architecture_saves_nothing(self, architecture):
        """Which of its layers see everything is not known: the safe side is all."""
        facts = ModelFacts(
            architecture=architecture, head_counts_kv=(1, 1), key_length=8, value_length=8, sliding_window=100
        )
        assert kv_cache_size(facts, 4096) == 2 * 4096 * 16 * 2

    @pytest.mark.parametrize("architecture", ["gptoss", "gpt-oss"])
    def test_gpt_oss_reserves_more_than_its_window(self, architecture):
        """4096 tokens and a batch, in either spelling, in every other layer."""
        facts = replace(GPT_OSS_20B, architecture=architecture)
        assert kv_cache_size(facts, 32_768) == 12 * (32_768 + 4096 + 512) * 8 * 128 * 2

    def test_the_prediction_counts_every_layer_alike(self):
        """Keys and values of two bytes for the fewest KV heads of any layer, all slots together."""
        facts = ModelFacts(block_count=3, embedding_length=64, head_count=4, head_counts_kv=(0, 4, 2))
        assert predicted_vram(1000, facts, 100, parallel=2) == 1000 + 2 * 3 * 1 * 16 * 200 * 2
        assert predicted_vram(0, replace(facts, head_counts_kv=()), 100) == 2 * 3 * 4 * 16 * 100 * 2

    def test_a_context_is_four_tokens_at_least(self):
        """Ollama raises smaller ones."""
        assert predicted_vram(0, ModelFacts(block_count=1, embedding_length=1, head_count=1), 1) == 2 * 4 * 2

    def test_a_recurrent_state_is_kept_for_each_slot(self):
        """With parts that the file does not tell, those it tells count: no kernel, no groups, no state."""
        hybrid = ModelFacts(head_counts_kv=(0, 1), key_length=8, value_length=8, ssm_inner_size=100, ssm_state_size=10)
        attention = 1000 * 2 * 16 * 2
        assert kv_cache_size(hybrid, 1000, parallel=2) == attention + 2 * 100 * 10 * 4
        with_kernel = replace(hybrid, ssm_conv_kernel=3)
        assert kv_cache_size(with_kernel, 1000, parallel=2) == attention + 2 * (2 * 100 + 100 * 10) * 4
        without_state = replace(hybrid, ssm_conv_kernel=3, ssm_state_size=None, ssm_group_count=5)
        assert kv_cache_size(without_state, 1000, parallel=2) == attention + 2 * 2 * 100 * 4
        without_inner = replace(hybrid, ssm_conv_kernel=3, ssm_inner_size=None, ssm_group_count=5)
        assert kv_cache_size(without_inner, 1000, parallel=2) == attention + 2 * 2 * (2 * 5 * 10) * 4

    def test_widths_are_whole_elements(self):
        """A model whose dimensions its heads do not divide is rounded down, as Ollama's integers are."""
        odd = ModelFacts(block_count=1, embedding_length=65, head_count=4)
        assert kv_cache_size(odd, 100) == 100 * 32 * 4 * 2
        assert predicted_vram(0, odd, 100) == 2 * 1 * 4 * 16 * 100 * 2
        gemma = replace(odd, architecture="gemma3", vocabulary=1)
        terms = 2 + 100 + 100 * 4 + 2 * 65 + 2 * 16 * 4
        assert compute_buffer_size(gemma, 100, flash_attention=False) == 4 * 100 * terms

    def test_a_context_of_an_unknown_model_is_as_asked(self):
        """Nothing says that it is too long."""
        assert effective_context(None, 1_000_000) == 1_000_000

    def test_every_formula_clamps_the_context(self):
        """What the model was made for is the most it gets."""
        short = ModelFacts(block_count=1, embedding_length=64, head_count=4, vocabulary=10, context_length=100)
        assert predicted_vram(0, short, 4096) == predicted_vram(0, short, 100)
        assert compute_buffer_size(short, 4096) == compute_buffer_size(short, 100) == 4 * 100 * (64 + 10)

    @pytest.mark.parametrize("lost", ["block_count", "embedding_length", "head_count"])
    def test_one_missing_fact_is_one_too_many(self, lost):
        """Each formula needs all of its own."""
        facts = replace(ModelFacts(block_count=1, embedding_length=64, head_count=4), **{lost: None})
        assert predicted_vram(1, facts, 4096) is None
        assert lost == "block_count" or compute_buffer_size(facts, 4096) is None
        assert lost == "block_count" or kv_cache_size(facts, 4096) is None

    def test_facts_that_do_not_suffice_give_nothing(self):
        """No guess in place of a formula."""
        assert kv_cache_size(ModelFacts(head_counts_kv=(1,)), 4096) is None
        assert kv_cache_size(ModelFacts(key_length=8), 4096) is None
        assert kv_cache_size(ModelFacts(head_counts_kv=(1,), value_length=8), 4096) is None
        assert kv_cache_size(ModelFacts(), 4096) is None
        assert compute_buffer_size(ModelFacts(), 4096) is None
        assert predicted_vram(1, ModelFacts(), 4096) is None


MODEL = canonical_name("llama3.3:70b")
ON_DISK = installed("llama3.3:70b", SIZE_70B, facts=LLAMA_70B)
NO_SETTINGS = ModelSettings()


def estimate(server, *, settings=NO_SETTINGS, model=MODEL, others=(), **more) -> MemoryEstimate:
    """The estimate of a model on a server in a fleet."""
    return estimate_memory(model, server, make_fleet(server, *others), settings, **more)


class TestSources:
    """The most trusted source wins and is named."""

    def test_override_beats_everything(self):
        """Also what was measured."""
        server = make_facts("a", (ON_DISK,), (loaded("llama3.3:70b", 50 * GIB),))
        found = estimate(server, settings=ModelSettings(memory_overrides={"LLAMA3.3:70B": 12.5}))
        assert (found.source, found.gib) == ("override", 12.5)

    def test_measured_beats_the_formula(self):
        """`/api/ps` knows better than any arithmetic."""
        server = make_facts("a", (ON_DISK,), (loaded("llama3.3:70b", 45 * GIB, context_length=8192),))
        assert (estimate(server).source, estimate(server).gib) == ("ps", 45.0)

    def test_measured_stays_known_after_an_unload(self):
        """Once seen, for the same context."""
        server = make_facts("a", (ON_DISK,), measured={(MODEL, 8192): 45 * GIB})
        assert estimate(server, num_ctx=8192).gib == 45.0
        assert estimate(server, num_ctx=16_384).source == "show"

    def test_measured_at_another_context_is_corrected_by_the_cache(self):
        """45 GiB at 8k are 52.5 GiB at 32k: 7.5 GiB more KV."""
        server = make_facts("a", (ON_DISK,), (loaded("llama3.3:70b", 45 * GIB, context_length=8192),))
        found = estimate(server, num_ctx=32_768)
        assert found.gib == pytest.approx(52.5)
        assert "KV at 32768 instead of 8192 tokens" in str(found)

    def test_formula_reads_like_a_sum(self):
        """Weights, cache and scratch, each with its origin."""
        text = str(estimate(make_facts("a", (ON_DISK,)), num_ctx=32_768))
        assert text == "50.3 GiB = 39.6 weights (tags) + 10.0 KV f16 at 32k (show) + 0.7 compute"

    def test_server_settings_shape_the_formula(self):
        """Slots, cache type, default context and overhead come from the config."""
        host = Server(host="a", default_context=32_768, num_parallel=4, kv_cache_type="q8_0", gpu_overhead_gb=1.0)
        found = estimate(make_facts("a", (ON_DISK,)), host=host)
        assert found.terms[1].size == 20 * GIB
        assert found.terms[1].name == "KV q8_0 at 32k x 4"
        assert found.terms[2].size > GIB

    def test_without_flash_attention_no_cache_is_quantised(self):
        """Ollama falls back to f16, whatever its environment asks for."""
        host = Server(host="a", num_parallel=1, kv_cache_type="q8_0", flash_attention=False)
        found = estimate(make_facts("a", (ON_DISK,)), host=host, num_ctx=32_768)
        assert (found.terms[1].name, found.terms[1].size) == ("KV f16 at 32k", 10 * GIB)

    def test_architecture_known_from_another_server(self):
        """The same files have the same architecture everywhere."""
        bare = installed("llama3.3:70b", SIZE_70B)
        other = make_facts("b", (ON_DISK,))
        assert estimate(make_facts("a", (bare,)), others=(other,)).source == "show"

    def test_same_name_with_other_files_lends_no_architecture(self):
        """A name is not a digest."""
        other = make_facts("b", (replace(ON_DISK, digest="sha256:other"),))
        assert estimate(make_facts("a", (installed("llama3.3:70b", SIZE_70B),)), others=(other,)).source == "tags"

    def test_size_from_another_servers_list(self):
        """As in the original: any server's /api/tags will do."""
        found = estimate(make_facts("a", ()), others=(make_facts("b", (installed("llama3.3:70b", SIZE_70B),)),))
        assert (found.source, found.size) == ("tags", SIZE_70B)

    def test_name_then_pattern_then_default(self):
        """What remains when no server says anything."""
        settings = ModelSettings.model_validate({"memory_patterns": [{"pattern": "^Big-", "memory_gb": 30.0}]})
        server = make_facts("a", None)
        assert estimate(server, settings=settings).source == "name"
        assert estimate(server, settings=settings, model=canonical_name("big-one")).gib == 30.0
        assert estimate(server, settings=settings, model=canonical_name("small-one")).source == "default"

    def test_nested_quantifiers_cost_no_more_than_the_name_is_long(self):
        """An engine that tries every split takes 18 s for these 29 characters, and a year for these 1,000."""
        settings = ModelSettings.model_validate({"memory_patterns": [{"pattern": "(a+)+$", "memory_gb": 30.0}]})
        for count in (28, 999):
            name = canonical_name("a" * count + "!")
            assert estimate(make_facts("a", None), settings=settings, model=name).source == "default"

    def test_request_without_a_model(self):
        """Gets the default."""
        assert estimate(make_facts("a", (ON_DISK,)), model=None).gib == 4.5


class TestNames:
    """Sizes in names, q4_K_M where none is written."""

    @pytest.mark.parametrize(
        ("name", "gib"),
        [
            ("llama3.1:70b-instruct-q4_K_M", 39.6),
            ("llama3.1:8b-instruct-q8_0", 8.0),
            ("llama3.1:8b-instruct-fp16", 15.0),
            ("mixtral:8x7b", 26.4),
            ("qwen3:30b-a3b", 17.0),
            ("nomic-embed-text:137m-v1.5-fp16", 0.26),
            ("hf.co/unsloth/llama-3.2-3b-instruct-gguf:q8_0", 3.0),
        ],
    )
    def test_within_a_tenth_of_the_file(self, name, gib):
        """Close enough to place a model nobody has yet."""
        size = parse_size_from_name(name)
        assert size is not None
        assert size / GIB == pytest.approx(gib, rel=0.1)

    @pytest.mark.parametrize("name", ["llama3", "phi3:mini-4k", "model:latest", "v1.5:x", "qwen3:a3b"])
    def test_no_number_of_parameters(self, name):
        """A version or a context length is no size."""
        assert parse_size_from_name(name) is None

    @pytest.mark.parametrize(
        ("name", "billions"), [("qwen3:30b-a3b", 3.0), ("mixtral:8x7b", 11.69), ("llama3.1:70b", 70.0)]
    )
    def test_active_parameters(self, name, billions):
        """What each token passes through decides the speed."""
        assert parse_active_parameters(name) == pytest.approx(billions * 1e9)


class TestAutomaticContext:
    """What Ollama chooses when neither request, Modelfile nor server say a context."""

    @pytest.mark.parametrize(
        ("host", "contexts"),
        [
            (None, (4096,)),
            (Server(host="h"), (4096,)),
            (Server(host="h", max_memory_gb=24.0), (32_768, 4096)),
            (Server(host="h", max_memory_gb=24.0, gpu_overhead_gb=2.0), (4096,)),
            (Server(host="h", gpus=(24.0, 24.0)), (262_144, 32_768, 4096)),
            (Server(host="h", gpus=(24.0,), max_memory_gb=60.0), (32_768, 4096)),
        ],
    )
    def test_follows_from_the_memory_of_all_gpus(self, host, contexts):
        """47 GiB, 23 GiB, less; one that does not fit is lowered to the next."""
        assert automatic_contexts(make_facts("a"), canonical_name("llama3.1:8b"), host) == contexts

    def test_that_was_seen_is_believed(self):
        """Another server of the same settings may have chosen another one."""
        facts = replace(make_facts("a"), automatic={canonical_name("llama3.1:8b"): 32_768})
        assert automatic_contexts(facts, canonical_name("llama3.1:8b"), Server(host="h")) == (32_768,)

    def test_that_does_not_fit_is_lowered(self):
        """32k tokens of KV cache beside the weights fit 24 GiB for 8 billion parameters, not 14 GiB for 70."""
        settings, names = ModelSettings(), {"llama3.1:8b": (SIZE_8B, LLAMA_8B), "llama3.3:70b": (SIZE_70B, LLAMA_70B)}
        rows = tuple(replace(installed(name, size), facts=known) for name, (size, known) in names.items())
        server = make_facts("a", rows)

        def terms(name: str, gib: float) -> str:
            host = Server(host="h", max_memory_gb=gib)
            return str(estimate_memory(canonical_name(name), server, make_fleet(server), settings, host=host))

        assert "at 32k" in terms("llama3.1:8b", 24.0)
        assert "at 4k" in terms("llama3.3:70b", 44.0)
        assert "at 128k" in terms("llama3.1:8b", 48.0)

    def test_of_the_modelfile_counts_before_the_server_s(self):
        """The request's own counts before both."""
        row = replace(installed("llama3.1:8b", SIZE_8B), facts=replace(LLAMA_8B, num_ctx=2048))
        server, host = make_facts("a", (row,)), Server(host="h", default_context=8192)

        def text(num_ctx: int | None) -> str:
            found = estimate_memory(row.name, server, make_fleet(server), ModelSettings(), num_ctx=num_ctx, host=host)
            return str(found)

        assert "at 2k" in text(None)
        assert "at 16k" in text(16_384)
