"""Facts and speed samples from the router's own traffic."""

from __future__ import annotations

import math

from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.fleet.observations import observe_load_finished, observe_unloaded
from ollama_router_core.fleet.runners import load_of, misfit
from ollama_router_core.fleet.snapshot import ServerFacts
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.responses.usage import Usage

__all__ = ["inferred_model", "observe_answered", "sample_of", "shows_nothing_new"]

_ROUNDED_NS = 10_000_000
"""Maximum difference in ns between two clocks over one response."""
_INFER = Kind.INFER  # an enum lookup costs as much as a call


def inferred_model(request: ParsedRequest) -> CanonicalName | None:
    """Return the model that a request needs in memory, None if it needs none."""
    if request.endpoint.kind is not _INFER or request.route.unloads:
        return None
    return request.route.model


def observe_answered(
    facts: ServerFacts, request: ParsedRequest, status: int, *, now: float, default_context: int | None = None
) -> ServerFacts:
    """Record a response head: the model is in memory, or unloaded."""
    model = request.route.model
    if model is None or request.endpoint.kind is not _INFER or status != 200:
        return facts
    if request.route.unloads:
        return observe_unloaded(facts, model, now=now)
    return observe_load_finished(facts, model, now=now, load=load_of(request.route), default_context=default_context)


def shows_nothing_new(
    facts: ServerFacts, request: ParsedRequest, status: int, default_context: int | None = None
) -> bool:
    """Whether a response is a success of a loaded model, for which `observe_answered` changes nothing."""
    route = request.route
    if status != 200 or facts.loading or route.unloads or route.model is None:
        return False
    held = facts.loaded.get(route.model)
    return held is not None and misfit(facts, route.model, held, load_of(route), default_context) is None


def sample_of(
    usage: Usage,
    *,
    loaded: bool,
    prompt_held: bool = False,
    neighbours: float = 0.0,
    seconds: float = math.inf,
    ahead: int = 0,
) -> Sample | None:
    """Return a speed sample from a response's metrics, None without durations.

    `loaded`: the request began the only load there; Ollama reports the wait for a load of others as its own.
    `prompt_held`: the prompt was read in part only, which says nothing about speed unless the server (0.33.3) tells how
    much of it was cached: only the rest was read. `neighbours` ran beside it, `ahead` of its model were there before,
    and it took so many `seconds` here.
    """
    if usage.eval_duration is None and usage.prompt_eval_duration is None:
        return None
    return Sample(
        load_ns=(usage.load_duration or 0) if loaded else 0,
        prompt_tokens=_read_tokens(usage, prompt_held=prompt_held),
        prompt_ns=usage.prompt_eval_duration or 0,
        output_tokens=usage.completion_tokens or 0,
        output_ns=usage.eval_duration or 0,
        neighbours=neighbours,
        queued_ns=_queued_ns(usage, within=seconds),
        whole_ns=usage.total_duration or 0,
        ahead=ahead,
    )


def _queued_ns(usage: Usage, *, within: float) -> int | None:
    """Return the ns of a response's total time that are neither load nor work: mainly its wait for a slot.

    None if durations are missing, or exceed the `within` seconds that it took.
    """
    whole, read, wrote = usage.total_duration, usage.prompt_eval_duration, usage.eval_duration
    if whole is None or read is None or wrote is None or whole > within * 1e9 + _ROUNDED_NS:
        return None
    return max(0, whole - (usage.load_duration or 0) - read - wrote)


def _read_tokens(usage: Usage, *, prompt_held: bool) -> int:
    """Count the prompt tokens processed in `prompt_eval_duration`, 0 if unknown."""
    if usage.cached_tokens is not None:
        return max(0, (usage.prompt_tokens or 0) - usage.cached_tokens)
    return 0 if prompt_held else usage.prompt_tokens or 0
