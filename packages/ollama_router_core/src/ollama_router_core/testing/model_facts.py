"""Facts of well-known models: sizes in bytes, dimensions, capabilities."""

from __future__ import annotations

from typing import Any

__all__ = ["KNOWN_MODELS"]


def _shape(blocks: int, width: int, heads: int, heads_kv: int, context: int, vocab: int) -> dict[str, int]:
    return {
        "block_count": blocks,
        "embedding_length": width,
        "head_count": heads,
        "head_count_kv": heads_kv,
        "context_length": context,
        "vocab_size": vocab,
    }


def _facts(size: int, family: str, parameters: str, quantization: str, **more: Any) -> dict[str, Any]:
    return {
        "size": size,
        "family": family,
        "parameter_size": parameters,
        "quantization_level": quantization,
        **more,
    }


_EMBEDS = ("embedding",)
_TALKS = ("completion",)
_SEES = ("completion", "vision")
_THINKS = ("completion", "tools", "thinking")

KNOWN_MODELS: dict[str, dict[str, Any]] = {
    "llama3.1:8b": _facts(4_920_753_328, "llama", "8.0B", "Q4_K_M", **_shape(32, 4096, 32, 8, 131_072, 128_256)),
    "llama3.1:70b": _facts(42_520_413_916, "llama", "70.6B", "Q4_K_M", **_shape(80, 8192, 64, 8, 131_072, 128_256)),
    "llama3.2:1b": _facts(1_321_098_329, "llama", "1.2B", "Q8_0", **_shape(16, 2048, 32, 8, 131_072, 128_256)),
    "llama3.2:3b": _facts(2_019_393_189, "llama", "3.2B", "Q4_K_M", **_shape(28, 3072, 24, 8, 131_072, 128_256)),
    "llama3.3:70b": _facts(42_520_413_916, "llama", "70.6B", "Q4_K_M", **_shape(80, 8192, 64, 8, 131_072, 128_256)),
    "qwen2.5:0.5b": _facts(397_821_319, "qwen2", "494.03M", "Q4_K_M", **_shape(24, 896, 14, 2, 32_768, 151_936)),
    "qwen2.5-coder:7b": _facts(
        4_683_087_332,
        "qwen2",
        "7.6B",
        "Q4_K_M",
        **_shape(28, 3584, 28, 4, 32_768, 152_064),
        capabilities=("completion", "tools", "insert"),
    ),
    "qwen3:8b": _facts(
        5_225_388_164,
        "qwen3",
        "8.2B",
        "Q4_K_M",
        **_shape(36, 4096, 32, 8, 40_960, 151_936),
        capabilities=_THINKS,
        key_length=128,
    ),
    "gpt-oss:20b": _facts(
        13_793_441_244,
        "gptoss",
        "20.9B",
        "MXFP4",
        **_shape(24, 2880, 64, 8, 131_072, 201_088),
        capabilities=_THINKS,
        key_length=64,
        sliding_window=128,
    ),
    "gemma3:270m": _facts(
        291_554_930,
        "gemma3",
        "268.10M",
        "Q8_0",
        **_shape(18, 640, 4, 1, 32_768, 262_144),
        capabilities=_TALKS,
        key_length=256,
        sliding_window=512,
    ),
    "gemma3:12b": _facts(
        8_149_190_253,
        "gemma3",
        "12.2B",
        "Q4_K_M",
        **_shape(48, 3840, 16, 8, 131_072, 262_144),
        capabilities=_SEES,
        key_length=256,
        sliding_window=1024,
    ),
    "llava:7b": _facts(
        4_733_363_377,
        "llama",
        "7B",
        "Q4_0",
        **_shape(32, 4096, 32, 8, 32_768, 32_000),
        capabilities=_SEES,
    ),
    "mistral:7b": _facts(4_372_824_384, "llama", "7.2B", "Q4_K_M", **_shape(32, 4096, 32, 8, 32_768, 32_768)),
    "phi4:14b": _facts(
        9_053_116_391,
        "phi3",
        "14.7B",
        "Q4_K_M",
        **_shape(40, 5120, 40, 10, 16_384, 100_352),
        capabilities=_TALKS,
    ),
    "nomic-embed-text:latest": _facts(
        274_302_450,
        "nomic-bert",
        "137M",
        "F16",
        **_shape(12, 768, 12, 12, 2048, 30_522),
        capabilities=_EMBEDS,
    ),
    "mxbai-embed-large:latest": _facts(
        669_615_493,
        "bert",
        "334M",
        "F16",
        **_shape(24, 1024, 16, 16, 512, 30_522),
        capabilities=_EMBEDS,
    ),
    "all-minilm:latest": _facts(
        45_960_996,
        "bert",
        "23M",
        "F16",
        **_shape(6, 384, 12, 12, 512, 30_522),
        capabilities=_EMBEDS,
    ),
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
