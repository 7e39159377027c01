"""Closed formulas: KV cache, compute buffers, and Ollama's own prediction before a load.

Sources: Ollama's fs/ggml/ggml.go, GraphSize (loads before 0.30) and llm/llama_server.go, PredictServerVRAM (since).
Sizes are bytes, contexts are tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ollama_router_core.fleet.snapshot import ModelFacts

__all__ = [
    "GIB",
    "KV_BYTES",
    "MIB",
    "compute_buffer_size",
    "effective_context",
    "kv_cache_size",
    "predicted_vram",
]

GIB = 1024**3
MIB = 1024**2

KV_BYTES: Mapping[str, float] = MappingProxyType({"f16": 2.0, "q8_0": 1.0, "q4_0": 0.5})
"""Bytes of one cached element by `OLLAMA_KV_CACHE_TYPE`, as Ollama counts them."""

GPU_MINIMUM = 457 * MIB
"""Bytes that a CUDA or ROCm device needs before any model is loaded."""

_BATCH = 512
_MIN_CONTEXT = 4

_FULL_EVERY: Mapping[str, int] = MappingProxyType(
    {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gptoss": 2, "gpt-oss": 2, "cohere2": 4}
)
"""Architectures with sliding windows: every n-th layer attends to the whole context. For others all layers count as
full, which overestimates."""

_GPT_OSS_WINDOW = 4096
"""Window that Ollama reserves for gpt-oss, whose model file says 128."""

_VOCABULARY: Mapping[str, int] = MappingProxyType({"qwen": 151_936, "gemma": 262_144})
_USUAL_VOCABULARY = 128_256


def effective_context(facts: ModelFacts | None, num_ctx: int) -> int:
    """Return the effective context: at most the model's maximum, at least 4 tokens."""
    longest = facts.context_length if facts is not None else None
    return max(_MIN_CONTEXT, num_ctx if longest is None else min(num_ctx, longest))


def kv_cache_size(facts: ModelFacts, num_ctx: int, *, parallel: int = 1, element_bytes: float = 2.0) -> int | None:
    """Return the bytes of the KV cache for `parallel` slots of `num_ctx` tokens; None if facts are missing.

    Layers without attention have a recurrent state that does not grow with the context.
    """
    heads_kv = _heads_kv_by_layer(facts)
    width = _head_width(facts)
    if heads_kv is None or width is None:
        return None
    context = effective_context(facts, num_ctx)
    full = context * parallel
    window = min(full, _window(facts, context, parallel))
    state = _recurrent_state(facts) * parallel
    elements = sum(
        (full if _sees_everything(facts, layer) else window) * width * heads for layer, heads in enumerate(heads_kv)
    )
    return round(elements * element_bytes) + state * heads_kv.count(0)


def compute_buffer_size(
    facts: ModelFacts, num_ctx: int, *, parallel: int = 1, flash_attention: bool = True
) -> int | None:
    """Return the bytes of scratch buffers with every layer on one GPU; None if facts are missing.

    With flash attention the term that grows with context and heads vanishes, which leaves 4B(E+V).
    """
    width, heads = facts.embedding_length, facts.head_count
    if width is None or not heads:
        return None
    context = effective_context(facts, num_ctx)
    batch = min(context, _BATCH)
    vocabulary = facts.vocabulary or _guessed_vocabulary(facts.architecture)
    output = 4 * batch * (width + vocabulary)
    if flash_attention:
        return output
    return max(_attention_buffer(facts, batch, context * parallel, width, heads), output)


def predicted_vram(file_size: int, facts: ModelFacts, num_ctx: int, *, parallel: int = 1) -> int | None:
    """Return the bytes that Ollama 0.30 and later compares with 80 % of the free VRAM; None if facts are missing.

    Always f16, without window, scratch buffers or the surcharge for larger batches.
    """
    if not facts.block_count or not facts.embedding_length or not facts.head_count:
        return None
    least = max(1, min(facts.head_counts_kv or (facts.head_count,)))
    width = facts.embedding_length // facts.head_count
    context = effective_context(facts, num_ctx) * parallel
    return file_size + 2 * facts.block_count * least * width * context * 2


def _heads_kv_by_layer(facts: ModelFacts) -> tuple[int, ...] | None:
    counts = facts.head_counts_kv or ((facts.head_count,) if facts.head_count else ())
    if len(counts) == 1 and facts.block_count:
        return counts * facts.block_count
    return counts or None


def _head_width(facts: ModelFacts) -> int | None:
    """Return the elements of one key plus one value."""
    usual = facts.embedding_length // facts.head_count if facts.embedding_length and facts.head_count else None
    key, value = facts.key_length or usual, facts.value_length or facts.key_length or usual
    return None if key is None or value is None else key + value


def _sees_everything(facts: ModelFacts, layer: int) -> bool:
    every = _FULL_EVERY.get(facts.architecture or "")
    return every is None or facts.sliding_window is None or (layer + 1) % every == 0


def _window(facts: ModelFacts, context: int, parallel: int) -> int:
    size = facts.sliding_window or context
    if facts.architecture in {"gptoss", "gpt-oss"}:
        size = _GPT_OSS_WINDOW
    return parallel * size + min(context, _BATCH)


def _recurrent_state(facts: ModelFacts) -> int:
    """Return the bytes of one recurrent layer's state for one slot."""
    inner, state = facts.ssm_inner_size or 0, facts.ssm_state_size or 0
    convolved = max(0, (facts.ssm_conv_kernel or 1) - 1) * (inner + 2 * (facts.ssm_group_count or 0) * state)
    return (convolved + state * inner) * 4


def _guessed_vocabulary(architecture: str | None) -> int:
    return next(
        (size for start, size in _VOCABULARY.items() if (architecture or "").startswith(start)), _USUAL_VOCABULARY
    )


def _attention_buffer(facts: ModelFacts, batch: int, context: int, width: int, heads: int) -> int:
    """Compute the branch of GraphSize that grows with the context, without flash attention."""
    architecture = facts.architecture or ""
    if architecture.startswith("qwen"):
        return 4 * batch * (1 + 2 * width + context + context * heads)
    if architecture.startswith("gemma"):
        key = facts.key_length or width // heads
        return 4 * batch * (2 + context + context * heads + 2 * width + 2 * key * heads)
    return 4 * batch * (1 + 4 * width + context * (1 + heads))
