"""Load, prefill and decode speeds of each model on each server: learned from final chunks, with priors before.

A rate is estimated in logarithms as prior(model) x factor(server) x residual(server, model). All models of a server
share the factor, so that the first request for one model informs about all others there. Priors depend only on the
model's size: prefill costs two operations per parameter and token, decoding a token reads the active weights once,
loading reads the file once.

Speeds of models partly on the CPU are learned separately and do not affect the server's factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.memory.names import parse_active_parameters, parse_parameters
from ollama_router_core.fleet.snapshot import EMPTY, InstalledModel, ModelSpeed, ModelWeight

__all__ = ["SHARING", "Sample", "SpeedBook", "model_weight"]

T = TypeVar("T")

SHARING = 0.8
"""Assumed exponent: with k parallel requests on a server, each step of one takes k^0.8 times as long."""

_PRIOR_FLOPS = 15e12
"""Operations per second of an average GPU during prefill."""
_PRIOR_BANDWIDTH = 300e9
"""Bytes of weights per second that it reads during decoding."""
_PRIOR_CPU_FLOPS, _PRIOR_CPU_BANDWIDTH = 0.5e12, 40e9
"""The same for the part of a model on the CPU."""
_PRIOR_LOAD = 1.5e9
"""Bytes per second from disk to GPU."""
_LOAD_FIXED = 0.5
"""Minimum seconds of a load."""
_PRIOR_ANSWER = 200.0
"""Prior response length in tokens."""

_BYTES_A_PARAMETER = 0.6
_LEAST_PROMPT, _LEAST_OUTPUT = 32, 4
_LEAST_PROMPT_NS, _LEAST_LOAD_NS = 5_000_000, 300_000_000
_SURPRISE = math.log(5.0)
_FIRST_SURPRISE = math.log(40.0)
_MEMORY = 30.0
_WINDOW = 11
_TOLD = 3
"""Number of latest values shared with other routers."""
_SHRINK = 1.0
_MAX_MODELS = 512


class Sample(Struct, frozen=True, kw_only=True):
    """The metrics of one finished request from Ollama's final chunk: nanoseconds and token counts.

    `neighbours` is the mean number of other requests on the server at the same time. `queued_ns` is the part of
    `whole_ns` that is neither load nor work, None if unknown; `ahead` requests of the model came first.
    """

    load_ns: int = 0
    prompt_tokens: int = 0
    prompt_ns: int = 0
    output_tokens: int = 0
    output_ns: int = 0
    neighbours: float = 0.0
    queued_ns: int | None = None
    whole_ns: int = 0
    ahead: int = 0


def model_weight(model: str, installed: InstalledModel | None = None, *, on_cpu: float = 0.0) -> ModelWeight:
    """Estimate a model's weight from a server's report, else from its name, else as 7 billion parameters.

    `on_cpu` is its share in main memory on a server whose GPUs hold the rest.
    """
    facts = installed.facts if installed is not None else None
    named = parse_parameters(model)
    size = float(installed.size) if installed is not None and installed.size > 0 else None
    counted = float(facts.parameter_count) if facts is not None and facts.parameter_count else None
    parameters = counted or named or (size / _BYTES_A_PARAMETER if size else 7e9)
    active = parse_active_parameters(model)
    share = active / named if active and named else 1.0
    if facts is not None and facts.expert_count and facts.expert_used_count and share == 1.0:
        share = min(1.0, facts.expert_used_count / facts.expert_count * 1.5)
    whole = size or parameters * _BYTES_A_PARAMETER
    return ModelWeight(size=whole, parameters=parameters, active=share, on_cpu=on_cpu)


class _Mean(Struct, frozen=True):
    """A decaying mean over about `_MEMORY` samples."""

    value: float = 0.0
    weight: float = 0.0

    def add(self, value: float, limit: float = _MEMORY) -> _Mean:
        weight = min(self.weight + 1.0, limit)
        return _Mean(self.value + (value - self.value) / weight, weight)


class _Median(Struct, frozen=True):
    """The median of the latest `_WINDOW` values: robust to outliers, and quick to follow changes."""

    values: tuple[float, ...] = ()
    value: float = 0.0
    weight: float = 0.0

    def add(self, value: float) -> _Median:
        values = (*self.values[1 - _WINDOW :], value)
        return _Median(values, sorted(values)[len(values) // 2], len(values))

    def latest(self) -> _Median:
        """Return the median of the last few values."""
        values = self.values[-_TOLD:]
        return _Median(values, sorted(values)[len(values) // 2], len(values)) if values else self


class _Rates(Struct, frozen=True):
    """Logarithms of observed over prior rates: load, prefill, decode."""

    load: _Median = _Median()
    prefill: _Median = _Median()
    decode: _Median = _Median()

    def latest(self) -> _Rates:
        return _Rates(self.load.latest(), self.prefill.latest(), self.decode.latest())


class _ServerRates(Struct, frozen=True):
    """Rates of one server; `partial` has the models partly on the CPU."""

    factor: _Rates = _Rates()
    models: Mapping[CanonicalName, _Rates] = EMPTY
    partial: Mapping[CanonicalName, _Rates] = EMPTY

    def of(self, model: CanonicalName, weight: ModelWeight) -> _Rates:
        return (self.partial if weight.on_cpu else self.models).get(model) or _Rates()

    def learned(self, model: CanonicalName, weight: ModelWeight, own: _Rates, shared: _Rates) -> _ServerRates:
        if weight.on_cpu:
            return _ServerRates(self.factor, self.models, _bounded(self.partial, model, own))
        return _ServerRates(shared, _bounded(self.models, model, own), self.partial)


class SpeedBook(Struct, frozen=True, kw_only=True):
    """All learned speeds; immutable, replaced with every finished request. At most 512 models per server."""

    servers: Mapping[str, _ServerRates] = EMPTY
    answers: Mapping[CanonicalName, _Mean] = EMPTY
    any_answer: _Mean = _Mean()

    def observe(self, server: str, model: CanonicalName, weight: ModelWeight, sample: Sample) -> SpeedBook:
        """Learn from one finished request.

        Samples that are too small or far too fast are ignored: a cached prompt costs almost nothing and shows no speed.
        """
        known = self.servers.get(server) or _ServerRates()
        row = known.of(model, weight)
        load, prefill, decode = _observed(weight, sample)
        own_load, all_load = _learn(row.load, known.factor.load, load)
        own_prefill, all_prefill = _learn(row.prefill, known.factor.prefill, prefill)
        own_decode, all_decode = _learn(row.decode, known.factor.decode, decode)
        own, shared = _Rates(own_load, own_prefill, own_decode), _Rates(all_load, all_prefill, all_decode)
        answers, any_answer = self.answers, self.any_answer
        if sample.output_tokens > 0:
            tokens = float(sample.output_tokens)
            answers = _bounded(answers, model, (answers.get(model) or _Mean()).add(tokens))
            any_answer = any_answer.add(tokens, 4 * _MEMORY)
        servers = {**self.servers, server: known.learned(model, weight, own, shared)}
        return SpeedBook(servers=servers, answers=answers, any_answer=any_answer)

    def expect(self, server: str, model: CanonicalName, weight: ModelWeight) -> ModelSpeed:
        """Return the expected speed of a model on a server."""
        known = self.servers.get(server) or _ServerRates()
        row = known.of(model, weight)
        load = _PRIOR_LOAD * math.exp(_expected(row.load, known.factor.load))
        return ModelSpeed(
            load_seconds=_LOAD_FIXED + weight.size / load,
            prefill_rate=_prior_prefill(weight) * math.exp(_expected(row.prefill, known.factor.prefill)),
            decode_rate=_prior_decode(weight) * math.exp(_expected(row.decode, known.factor.decode)),
            answer_tokens=self.answer_tokens(model),
            samples=round(max(row.prefill.weight, row.decode.weight)),
        )

    def version(self, server: str) -> object:
        """Return an object that changes whenever something about this server is learned."""
        return self.servers.get(server)

    def latest(self, most: int) -> SpeedBook:
        """Return the latest values of the most recent entries, at most `most` speeds and response lengths."""
        each = max(1, most // max(1, len(self.servers)))
        servers = {
            name: _ServerRates(known.factor.latest(), _last(known.models, each), _last(known.partial, each))
            for name, known in tuple(self.servers.items())[-most:]
        }
        answers = dict(tuple(self.answers.items())[-most:])
        return SpeedBook(servers=servers, answers=answers, any_answer=self.any_answer)

    def over(self, other: SpeedBook) -> SpeedBook:
        """Return this book, with another one's entries for unknown servers and models."""
        return SpeedBook(
            servers={**other.servers, **self.servers},
            answers={**other.answers, **self.answers},
            any_answer=self.any_answer if self.any_answer.weight else other.any_answer,
        )

    def answer_tokens(self, model: CanonicalName) -> float:
        """Return the mean response length of a model in tokens."""
        own, everyone = self.answers.get(model) or _Mean(), self.any_answer
        usual = (everyone.value * everyone.weight + _PRIOR_ANSWER) / (everyone.weight + 1.0)
        return (own.value * own.weight + usual * 2.0) / (own.weight + 2.0)


def _prior_prefill(weight: ModelWeight) -> float:
    return _both(_PRIOR_FLOPS, _PRIOR_CPU_FLOPS, weight.on_cpu) / (2.0 * weight.parameters * weight.active)


def _prior_decode(weight: ModelWeight) -> float:
    return _both(_PRIOR_BANDWIDTH, _PRIOR_CPU_BANDWIDTH, weight.on_cpu) / (weight.size * weight.active)


def _both(gpu: float, cpu: float, on_cpu: float) -> float:
    """Return the combined rate of GPU and CPU, which work in sequence."""
    return 1.0 / ((1.0 - on_cpu) / gpu + on_cpu / cpu) if on_cpu else gpu


def _observed(weight: ModelWeight, sample: Sample) -> tuple[float | None, float | None, float | None]:
    """Return the log ratios to the priors of load, prefill and decode; None for samples that are too small."""
    crowd = (1.0 + max(0.0, sample.neighbours)) ** SHARING
    load = prefill = decode = None
    if sample.load_ns >= _LEAST_LOAD_NS:
        seconds = max(sample.load_ns / 1e9 - _LOAD_FIXED, 0.05)
        load = math.log(weight.size / seconds / _PRIOR_LOAD)
    if sample.prompt_tokens >= _LEAST_PROMPT and sample.prompt_ns >= _LEAST_PROMPT_NS:
        rate = sample.prompt_tokens / sample.prompt_ns * 1e9 * crowd
        prefill = math.log(rate / _prior_prefill(weight))
    if sample.output_tokens >= _LEAST_OUTPUT and sample.output_ns > 0:
        rate = sample.output_tokens / sample.output_ns * 1e9 * crowd
        decode = math.log(rate / _prior_decode(weight))
    return load, prefill, decode


def _expected(row: _Median, factor: _Median) -> float:
    shared = factor.value * factor.weight / (factor.weight + _SHRINK)
    return (row.value * row.weight + shared * _SHRINK) / (row.weight + _SHRINK)


def _learn(row: _Median, factor: _Median, rate: float | None) -> tuple[_Median, _Median]:
    """Update the row and the server's factor by one observation, if any; outliers are clipped or ignored."""
    if rate is None:
        return row, factor
    expected = _expected(row, factor)
    limit = _SURPRISE if row.weight + factor.weight >= 3.0 else _FIRST_SURPRISE
    if rate - expected > limit:
        return row, factor
    rate = max(rate, expected - limit)
    return row.add(rate), factor.add(rate)


def _last(rows: Mapping[CanonicalName, _Rates], most: int) -> Mapping[CanonicalName, _Rates]:
    return {model: row.latest() for model, row in tuple(rows.items())[-most:]}


def _bounded(rows: Mapping[CanonicalName, T], model: CanonicalName, row: T) -> Mapping[CanonicalName, T]:
    kept = dict(rows)
    kept.pop(model, None)
    if len(kept) >= _MAX_MODELS:
        del kept[next(iter(kept))]
    kept[model] = row
    return kept
