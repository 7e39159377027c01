"""How much memory a model needs on a server, and from where each number came.

Belongs here: estimates with their source and terms.
Does not belong here: whether that is too much (`selection`).

All sizes are bytes; GiB means 1024^3 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ollama_router_core.config.settings import ModelSettings
from ollama_router_core.fleet import FleetSnapshot, InstalledModel, ServerFacts
from ollama_router_core.names import CanonicalName, canonical_name

__all__ = ["GIB", "MemoryEstimate", "MemorySource", "MemoryTerm", "estimate_memory", "parse_size_from_name"]

GIB = 1024**3


class MemorySource(StrEnum):
    """What an estimate rests on, the most trusted first."""

    OVERRIDE = "override"
    MEASURED = "ps"
    TAGS = "tags"
    NAME = "name"
    PATTERN = "pattern"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTerm:
    """One addend: what it is, how many bytes, and where the number came from."""

    name: str
    size: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes a model needs, with the terms that add up to them."""

    source: MemorySource
    terms: tuple[MemoryTerm, ...]

    @property
    def size(self) -> int:
        """The sum of the terms, in bytes."""
        return sum(term.size for term in self.terms)

    @property
    def gib(self) -> float:
        """The sum of the terms, in GiB."""
        return self.size / GIB

    def __str__(self) -> str:
        if len(self.terms) == 1:
            return f"{self.gib:.1f} GiB ({self.source})"
        parts = " + ".join(f"{term.size / GIB:.1f} {term.name} ({term.source})" for term in self.terms)
        return f"{self.gib:.1f} GiB = {parts}"


def estimate_memory(
    model: CanonicalName | None,
    server: ServerFacts,
    fleet: FleetSnapshot,
    settings: ModelSettings,
    *,
    num_ctx: int | None = None,
) -> MemoryEstimate:
    """Estimate a model's memory on a server: override, then measured, reported, named, matched, assumed.

    `num_ctx` is the requested context in tokens. A request without a model gets the default, as in the original.
    """
    if model is None:
        return _single(MemorySource.DEFAULT, settings.default_memory_gb)
    override = _override(model, settings.memory_overrides)
    if override is not None:
        return _single(MemorySource.OVERRIDE, override)
    loaded = server.loaded.get(model)
    if loaded is not None and loaded.size > 0 and num_ctx in {None, loaded.context_length}:
        return _single(MemorySource.MEASURED, loaded.size / GIB)
    installed = _installed(model, server, fleet.servers.values())
    if installed is not None and installed.size > 0:
        return _single(MemorySource.TAGS, installed.size / GIB)
    return _from_text(model, settings)


def _single(source: MemorySource, gib: float) -> MemoryEstimate:
    name = "measured" if source is MemorySource.MEASURED else "weights"
    return MemoryEstimate(source=source, terms=(MemoryTerm(name=name, size=round(gib * GIB), source=str(source)),))


def _override(model: CanonicalName, overrides: Mapping[str, float]) -> float | None:
    return next((gib for text, gib in overrides.items() if canonical_name(text) == model), None)


def _installed(model: CanonicalName, server: ServerFacts, others: Iterable[ServerFacts]) -> InstalledModel | None:
    for facts in (server, *others):
        found = facts.installed.get(model) if facts.installed else None
        if found is not None:
            return found
    return None


def _from_text(model: CanonicalName, settings: ModelSettings) -> MemoryEstimate:
    named = parse_size_from_name(model)
    if named is not None:
        return _single(MemorySource.NAME, named / GIB)
    for row in settings.memory_patterns:
        if re.search(row.pattern, model):
            return _single(MemorySource.PATTERN, row.memory_gb)
    return _single(MemorySource.DEFAULT, settings.default_memory_gb)


_BITS_PER_WEIGHT = (
    ("q2_k", 3.35), ("q3_k_s", 3.5), ("q3_k_m", 3.91), ("q3_k_l", 4.27), ("q4_0", 4.55), ("q4_1", 5.0),
    ("q4_k_s", 4.58), ("q4_k_m", 4.85), ("q4_k", 4.85), ("q5_0", 5.54), ("q5_1", 6.0), ("q5_k_s", 5.54),
    ("q5_k_m", 5.69), ("q5_k", 5.69), ("q6_k", 6.59), ("q8_0", 8.5), ("mxfp4", 4.25), ("bf16", 16.0), ("fp16", 16.0),
    ("f16", 16.0), ("fp32", 32.0), ("f32", 32.0),
)  # fmt: skip
_DEFAULT_BITS = 4.85
"""Ollama's registry serves q4_K_M where a tag names no quantisation; bits a weight as llama.cpp publishes them."""

_EXPERTS = re.compile(r"(?<![a-z0-9.])(\d+)x(\d+(?:\.\d+)?)b(?![a-z0-9])")
_PARAMETERS = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])")
_SHARED_BY_EXPERTS = 0.835
"""Mixtral 8x7b has 46.7 billion parameters, not 56: attention is shared."""


def parse_size_from_name(model: str) -> int | None:
    """Bytes of weights read from a name such as `llama3.1:70b-instruct-q4_K_M`, `mixtral:8x7b` or `qwen3:30b-a3b`.

    None when the name holds no number of parameters. The tag counts before the model's own name.
    """
    lowered = model.lower()
    name, _, tag = lowered.rpartition(":")
    for text in (tag, name.rpartition("/")[2]):
        parameters = _parameters(text)
        if parameters:
            return round(parameters * _bits(lowered) / 8)
    return None


def _parameters(text: str) -> float | None:
    experts = _EXPERTS.search(text)
    if experts:
        return int(experts[1]) * float(experts[2]) * _SHARED_BY_EXPERTS * 1e9
    found = [float(number) * (1e9 if unit == "b" else 1e6) for number, unit in _PARAMETERS.findall(text)]
    return max(found, default=None)


def _bits(text: str) -> float:
    return next(
        (bits for name, bits in sorted(_BITS_PER_WEIGHT, key=lambda row: -len(row[0])) if name in text), _DEFAULT_BITS
    )
