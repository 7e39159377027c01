"""The models of a simulated server: their facts, not their behaviour.

Contains the value `SimulatedModel`, realistic facts of well-known names (`model`), and the format in `/api/tags` and
`/api/show`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ollama_router_core.testing.model_facts import KNOWN_MODELS
from ollama_router_core.testing.ollama_names import valid_name

__all__ = ["SimulatedModel", "known_models", "model"]

_BANDWIDTH = 400e9  # bytes/s a decoding step can read: one pass over the weights per token
_SINGLE_SLOT = frozenset(
    {"mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe"}
    | {"nemotron_h", "nemotron_h_moe", "nemotron_h_omni"}
)
_FILE_TYPES = {"F16": 1, "Q4_0": 2, "MXFP4": 4, "Q8_0": 7, "Q4_K_M": 15, "Q6_K": 18}
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedModel:
    """One model: sizes in bytes, speeds in tokens per second, times in seconds since the epoch.

    `decode_speed` and `prefill_speed` default to values derived from the size. `answer_tokens` overrides the server's
    response length. A `load_error` makes every load fail with status 500. `weights` is the digest of the weights file,
    which variants share; `parameters` are those of the Modelfile. A `plain` model neither thinks nor calls tools,
    whatever its capabilities.
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
    weights: str = ""
    parent_model: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    adapters: tuple[str, ...] = ()
    plain: bool = False
    template: str = "{{ .Prompt }}"
    license: str = ""
    load_error: str | None = None

    def __post_init__(self) -> None:
        parsed = valid_name(self.name)
        object.__setattr__(self, "name", parsed.short)
        if not self.digest:
            object.__setattr__(self, "digest", hashlib.sha256(parsed.key.encode()).hexdigest())
        if not self.weights:
            object.__setattr__(self, "weights", hashlib.sha256(f"weights {self.digest}".encode()).hexdigest())
        if not self.decode_speed:
            object.__setattr__(self, "decode_speed", min(300.0, round(_BANDWIDTH / max(self.size, 1), 1)))
        if not self.prefill_speed:
            object.__setattr__(self, "prefill_speed", self.decode_speed * 20)

    @property
    def parameter_count(self) -> int:
        """The number of parameters, from `parameter_size`."""
        match = re.fullmatch(r"([\d.]+)([KMBT])", self.parameter_size)
        return int(float(match[1]) * _UNITS[match[2]]) if match else 0

    @property
    def single_slot(self) -> bool:
        """Whether Ollama forces num_parallel to 1 for this model."""
        return "completion" not in self.capabilities or self.family in _SINGLE_SLOT or self.is_mlx

    @property
    def is_mlx(self) -> bool:
        """Whether it uses the MLX runner, which ignores options."""
        return self.format == "safetensors"

    def renamed(self, name: str) -> SimulatedModel:
        """Return the same model (same digest) under another name."""
        return replace(self, name=name)

    def variant(self, name: str, **changes: Any) -> SimulatedModel:
        """Return a model created `FROM` this one: another manifest, the same weights."""
        text = f"{self.digest} {sorted(changes.items())!r}"
        own = {"digest": hashlib.sha256(text.encode()).hexdigest(), "parent_model": self.name}
        return replace(self, name=name, **{**own, **changes})

    def details(self, *, summary: bool = False) -> dict[str, Any]:
        """Build the `details` object; the `summary` of /api/tags also has the two lengths."""
        facts: dict[str, Any] = {
            "parent_model": self.parent_model,
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
        """Build the `model_info` object of /api/show; arrays are null unless `verbose`."""
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
    """Create a model with realistic facts: from the table for a well-known name, else guessed from its size tag.

    `changes` replace single fields of `SimulatedModel`.
    """
    parsed = valid_name(name)
    facts = KNOWN_MODELS.get(f"{parsed.model}:{parsed.tag}".lower()) or _guess(parsed.tag)
    return SimulatedModel(name=name, **{**facts, **changes})


def known_models() -> tuple[str, ...]:
    """Return the well-known names, sorted."""
    return tuple(sorted(KNOWN_MODELS))


def _guess(tag: str) -> dict[str, Any]:
    match = re.search(r"(\d+(?:\.\d+)?)([bm])", tag.lower())
    billions = float(match[1]) / (1000 if match[2] == "m" else 1) if match else 7.0
    return {"size": int(billions * 0.6e9), "parameter_size": f"{billions:.1f}B"}
