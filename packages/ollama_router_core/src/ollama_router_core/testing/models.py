"""Models a simulated server can hold: their facts, not their behaviour.

Here: the value `SimulatedModel`, realistic facts for well-known names (`model`), and how the value looks in
`/api/tags` and `/api/show`. Not here: memory on a server (scheduler), text (generation).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Any

from ollama_router_core.testing.model_names import parse_name

__all__ = ["SimulatedModel", "known_models", "model"]

_BANDWIDTH = 400e9  # bytes/s a decoding step can read: one pass over the weights per token
_SINGLE_SLOT = ("mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe")
_FILE_TYPES = {"F16": 1, "Q4_0": 2, "MXFP4": 4, "Q8_0": 7, "Q4_K_M": 15, "Q6_K": 18}
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedModel:
    """One model: sizes in bytes, speeds in tokens per second, times in seconds since the epoch.

    `decode_speed` and `prefill_speed` are derived from the size when they are not given. `answer_tokens`
    overrides the server's length of an answer. A `load_error` makes every load fail with status 500.
    """

    name: str
    size: int
    family: str = "llama"
    parameter_size: str = "8.0B"
    quantization_level: str = "Q4_K_M"
    context_length: int = 131_072
    embedding_length: int = 4096
    block_count: int = 32
    head_count: int = 32
    head_count_kv: int = 8
    key_length: int | None = None
    feed_forward_length: int = 14_336
    vocab_size: int = 128_256
    sliding_window: int | None = None
    capabilities: tuple[str, ...] = ("completion", "tools")
    digest: str = ""
    decode_speed: float = 0.0
    prefill_speed: float = 0.0
    answer_tokens: int | None = None
    modified_at: float = 1_750_000_000.0
    format: str = "gguf"
    system: str = ""
    template: str = "{{ .Prompt }}"
    license: str = ""
    load_error: str | None = None

    def __post_init__(self) -> None:
        parsed = parse_name(self.name)
        if parsed is None:
            raise ValueError(f"not a model name: {self.name!r}")
        object.__setattr__(self, "name", parsed.short)
        if not self.digest:
            object.__setattr__(self, "digest", hashlib.sha256(parsed.key.encode()).hexdigest())
        if not self.decode_speed:
            object.__setattr__(self, "decode_speed", min(300.0, round(_BANDWIDTH / max(self.size, 1), 1)))
        if not self.prefill_speed:
            object.__setattr__(self, "prefill_speed", self.decode_speed * 20)

    @property
    def parameter_count(self) -> int:
        """Parameters as a number, from `parameter_size`."""
        match = re.fullmatch(r"([\d.]+)([KMBT])", self.parameter_size)
        return int(float(match[1]) * _UNITS[match[2]]) if match else 0

    @property
    def single_slot(self) -> bool:
        """Whether Ollama forces num_parallel to 1 for this model."""
        return "embedding" in self.capabilities or self.family in _SINGLE_SLOT

    def renamed(self, name: str) -> SimulatedModel:
        """The same model (same digest) under another name."""
        return replace(self, name=name)

    def details(self, *, summary: bool = False) -> dict[str, Any]:
        """The `details` object; the summary in /api/tags also carries the two lengths."""
        facts: dict[str, Any] = {
            "parent_model": "",
            "format": self.format,
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantization_level,
        }
        if summary:
            facts |= {"context_length": self.context_length, "embedding_length": self.embedding_length}
        return facts

    def model_info(self, *, verbose: bool) -> dict[str, Any]:
        """The `model_info` object of /api/show; arrays are null unless `verbose`."""
        arch = self.family
        optional = {
            f"{arch}.attention.key_length": self.key_length,
            f"{arch}.attention.value_length": self.key_length,
            f"{arch}.attention.sliding_window": self.sliding_window,
            f"{arch}.pooling_type": 1 if "embedding" in self.capabilities else None,
        }
        return {
            "general.architecture": arch,
            "general.file_type": _FILE_TYPES.get(self.quantization_level, 15),
            "general.parameter_count": self.parameter_count,
            "general.quantization_version": 2,
            f"{arch}.attention.head_count": self.head_count,
            f"{arch}.attention.head_count_kv": self.head_count_kv,
            f"{arch}.attention.layer_norm_rms_epsilon": 1e-05,
            **{key: value for key, value in optional.items() if value is not None},
            f"{arch}.block_count": self.block_count,
            f"{arch}.context_length": self.context_length,
            f"{arch}.embedding_length": self.embedding_length,
            f"{arch}.feed_forward_length": self.feed_forward_length,
            f"{arch}.vocab_size": self.vocab_size,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": ["<s>", "</s>", "word"] if verbose else None,
        }


def model(name: str, **changes: Any) -> SimulatedModel:
    """A model with realistic facts: from the table when the name is well known, else guessed from its size tag.

    `changes` replace single fields of `SimulatedModel`.
    """
    parsed = parse_name(name)
    if parsed is None:
        raise ValueError(f"not a model name: {name!r}")
    facts = _KNOWN.get(f"{parsed.model}:{parsed.tag}".lower()) or _guess(parsed.tag)
    return SimulatedModel(name=name, **{**facts, **changes})


def known_models() -> tuple[str, ...]:
    """The names with facts of their own, sorted."""
    return tuple(sorted(_KNOWN))


def _guess(tag: str) -> dict[str, Any]:
    match = re.search(r"(\d+(?:\.\d+)?)([bm])", tag.lower())
    billions = float(match[1]) / (1000 if match[2] == "m" else 1) if match else 7.0
    return {"size": int(billions * 0.6e9), "parameter_size": f"{billions:.1f}B"}


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

_KNOWN: dict[str, dict[str, Any]] = {
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
_KNOWN |= {
    alias: _KNOWN[target]
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
