"""Model sizes parsed from names."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["parse_active_parameters", "parse_parameters", "parse_size_from_name"]

_BITS_PER_WEIGHT = {
    "iq1_s": 1.56, "iq2_xxs": 2.06, "iq2_xs": 2.31, "iq2_m": 2.7, "iq3_xxs": 3.06, "iq3_s": 3.44, "iq3_m": 3.66,
    "iq4_xs": 4.25, "iq4_nl": 4.5, "q2_k": 3.35, "q3_k_s": 3.5, "q3_k_m": 3.91, "q3_k_l": 4.27, "q4_0": 4.55,
    "q4_1": 5.0, "q4_k_s": 4.58, "q4_k_m": 4.85, "q4_k": 4.85, "q5_0": 5.54, "q5_1": 6.0, "q5_k_s": 5.54,
    "q5_k_m": 5.69, "q5_k": 5.69, "q6_k": 6.59, "q8_0": 8.5, "mxfp4": 4.25, "nvfp4": 4.5, "fp8": 8.0, "bf16": 16.0,
    "fp16": 16.0, "f16": 16.0, "fp32": 32.0, "f32": 32.0,
}  # fmt: skip
"""Bits per weight, as published by llama.cpp."""

_DEFAULT_BITS = 4.85
"""Ollama's registry serves q4_K_M for a tag without a quantisation."""

_QUANTISATION = re.compile(
    r"(?<![a-z0-9])(" + "|".join(sorted(_BITS_PER_WEIGHT, key=len, reverse=True)) + r")(?![a-z0-9])"
)
_EXPERTS = re.compile(r"(?<![a-z0-9.])(\d+)x(\d+(?:\.\d+)?)b(?![a-z0-9])")
_PARAMETERS = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])")
_ACTIVE = re.compile(r"(?<![a-z0-9])a(\d+(?:\.\d+)?)b(?![a-z0-9])")
_SHARED_BY_EXPERTS = 0.835
"""Mixtral 8x7b has 46.7 billion parameters, not 56: attention is shared."""
_EXPERTS_IN_USE = 2


@lru_cache(maxsize=4096)  # 0.9 us for every server of a plan
def parse_size_from_name(model: str) -> int | None:
    """Parse the bytes of weights from a name such as `llama3.1:70b-instruct-q4_K_M`, `mixtral:8x7b` or `qwen3:30b-a3b`.

    None if the name has no number of parameters. The tag takes precedence over the model's own name.
    """
    parameters = parse_parameters(model)
    return None if parameters is None else round(parameters * _bits(model.lower()) / 8)


@lru_cache(maxsize=4096)  # 1.5 us for every server of a plan
def parse_parameters(model: str) -> float | None:
    """Parse the number of parameters in a name, all experts included."""
    for text in _parts(model):
        experts = _EXPERTS.search(text)
        if experts:
            return int(experts[1]) * float(experts[2]) * _SHARED_BY_EXPERTS * 1e9
        found = [float(number) * (1e9 if unit == "b" else 1e6) for number, unit in _PARAMETERS.findall(text)]
        if any(found):
            return max(found)
    return None


@lru_cache(maxsize=4096)  # 1.1 us for every server of a plan
def parse_active_parameters(model: str) -> float | None:
    """Parse the number of active parameters per token: fewer than all in a mixture of experts."""
    for text in _parts(model):
        active = _ACTIVE.search(text)
        if active:
            return float(active[1]) * 1e9
        experts = _EXPERTS.search(text)
        if experts:
            return min(int(experts[1]), _EXPERTS_IN_USE) * float(experts[2]) * _SHARED_BY_EXPERTS * 1e9
    return parse_parameters(model)


def _parts(model: str) -> tuple[str, str]:
    name, _, tag = model.lower().rpartition(":")
    return tag, name.rpartition("/")[2]


def _bits(text: str) -> float:
    found = _QUANTISATION.search(text)
    return _BITS_PER_WEIGHT[found[1]] if found else _DEFAULT_BITS
