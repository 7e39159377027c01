"""Facts of well-known models: sizes in bytes, dimensions, capabilities."""

from __future__ import annotations

from typing import Any

__all__ = ["KNOWN_MODELS"]


_SHAPE = ("block_count", "embedding_length", "head_count", "head_count_kv", "context_length", "vocab_size")


def _facts(
    size: int,
    family: str,
    parameters: str,
    quantization: str,
    shape: tuple[int, ...],
    capabilities: tuple[str, ...] = ("completion", "tools"),
    **more: Any,
) -> dict[str, Any]:
    """Return the fields of a `SimulatedModel`; `shape` has those of `_SHAPE`."""
    facts = {"size": size, "family": family, "parameter_size": parameters, "quantization_level": quantization}
    return {**facts, **dict(zip(_SHAPE, shape, strict=True)), "capabilities": capabilities, **more}


_EMBEDS = ("embedding",)
_TALKS = ("completion",)
_SEES = ("completion", "vision")
_THINKS = ("completion", "tools", "thinking")

KNOWN_MODELS: dict[str, dict[str, Any]] = {
    "llama3.1:8b": _facts(4_920_753_328, "llama", "8.0B", "Q4_K_M", (32, 4096, 32, 8, 131_072, 128_256)),
    "llama3.1:70b": _facts(42_520_413_916, "llama", "70.6B", "Q4_K_M", (80, 8192, 64, 8, 131_072, 128_256)),
    "llama3.2:1b": _facts(1_321_098_329, "llama", "1.2B", "Q8_0", (16, 2048, 32, 8, 131_072, 128_256)),
    "llama3.2:3b": _facts(2_019_393_189, "llama", "3.2B", "Q4_K_M", (28, 3072, 24, 8, 131_072, 128_256)),
    "llama3.3:70b": _facts(42_520_413_916, "llama", "70.6B", "Q4_K_M", (80, 8192, 64, 8, 131_072, 128_256)),
    "qwen2.5:0.5b": _facts(397_821_319, "qwen2", "494.03M", "Q4_K_M", (24, 896, 14, 2, 32_768, 151_936)),
    "qwen2.5-coder:7b": _facts(
        4_683_087_332, "qwen2", "7.6B", "Q4_K_M", (28, 3584, 28, 4, 32_768, 152_064), ("completion", "tools", "insert")
    ),
    "qwen3:8b": _facts(
        5_225_388_164, "qwen3", "8.2B", "Q4_K_M", (36, 4096, 32, 8, 40_960, 151_936), _THINKS, key_length=128
    ),
    "gpt-oss:20b": _facts(
        13_793_441_244,
        "gptoss",
        "20.9B",
        "MXFP4",
        (24, 2880, 64, 8, 131_072, 201_088),
        _THINKS,
        key_length=64,
        sliding_window=128,
    ),
    "gemma3:270m": _facts(
        291_554_930,
        "gemma3",
        "268.10M",
        "Q8_0",
        (18, 640, 4, 1, 32_768, 262_144),
        _TALKS,
        key_length=256,
        sliding_window=512,
    ),
    "gemma3:12b": _facts(
        8_149_190_253,
        "gemma3",
        "12.2B",
        "Q4_K_M",
        (48, 3840, 16, 8, 131_072, 262_144),
        _SEES,
        key_length=256,
        sliding_window=1024,
    ),
    "llava:7b": _facts(4_733_363_377, "llama", "7B", "Q4_0", (32, 4096, 32, 8, 32_768, 32_000), _SEES),
    "mistral:7b": _facts(4_372_824_384, "llama", "7.2B", "Q4_K_M", (32, 4096, 32, 8, 32_768, 32_768)),
    "phi4:14b": _facts(9_053_116_391, "phi3", "14.7B", "Q4_K_M", (40, 5120, 40, 10, 16_384, 100_352), _TALKS),
    "nomic-embed-text:latest": _facts(
        274_302_450, "nomic-bert", "137M", "F16", (12, 768, 12, 12, 2048, 30_522), _EMBEDS
    ),
    "mxbai-embed-large:latest": _facts(669_615_493, "bert", "334M", "F16", (24, 1024, 16, 16, 512, 30_522), _EMBEDS),
    "all-minilm:latest": _facts(45_960_996, "bert", "23M", "F16", (6, 384, 12, 12, 512, 30_522), _EMBEDS),
}
KNOWN_MODELS |= {
    alias: KNOWN_MODELS[target]
    for alias, target in {
        "llama3.1:latest": "llama3.1:8b",
        "llama3.2:latest": "llama3.2:3b",
        "llama3.3:latest": "llama3.3:70b",
        "qwen3:latest": "qwen3:8b",
        "gpt-oss:latest": "gpt-oss:20b",
        "llava:latest": "llava:7b",
        "mistral:latest": "mistral:7b",
        "phi4:latest": "phi4:14b",
    }.items()
}
