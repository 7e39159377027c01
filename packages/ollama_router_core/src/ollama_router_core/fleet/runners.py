"""Which loaded runner serves a request, and whether the request would reload it.

Since 0.30, Ollama has one runner per file of weights: names built on one file share the runner, and requests with other
options reload it. Sources: Ollama's server/sched.go, schedulerModelKey and needsReload.
"""

from __future__ import annotations

from typing import NamedTuple

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.fleet.snapshot import MLX, InstalledModel, LoadedModel, LoadOptions, ServerFacts

__all__ = ["Load", "explicit_context", "load_of", "misfit", "runner_names", "runner_of"]

_LEAST_CONTEXT = 4
_LAYERS = "num_gpu"


class Load(NamedTuple):
    """The load options of a request.

    `num_ctx` is the context in tokens, None for that of the Modelfile or server; `options` are the other given options
    that differ from Ollama's defaults.
    """

    num_ctx: int | None = None
    options: LoadOptions = frozenset()


def load_of(route: RouteRequest) -> Load:
    """Return the load options of a request."""
    return Load(route.num_ctx, route.load_options)


def runner_of(facts: ServerFacts, model: CanonicalName) -> LoadedModel | None:
    """Return the loaded runner for `model`: its own, else one with the same weights."""
    own = facts.loaded.get(model)
    if own is not None or not facts.loaded:
        return own
    weights = _weights(facts, model)
    if weights is None:
        return None
    return next((row for row in facts.loaded.values() if _weights(facts, row.name) == weights), None)


def runner_names(facts: ServerFacts, model: CanonicalName) -> tuple[CanonicalName, ...]:
    """Return the names on a server that share a model's runner: its own, and those with the same weights."""
    weights = _weights(facts, model)
    if weights is None or facts.installed is None:
        return (model,)
    return (model, *[name for name in facts.installed if name != model and _weights(facts, name) == weights])


def misfit(
    facts: ServerFacts, model: CanonicalName, runner: LoadedModel, load: Load, default_context: int | None = None
) -> str | None:
    """Return why a request would reload a runner, None if the runner serves it as it is.

    `default_context` is the server's configured default in tokens. Unknown properties are no reason.
    """
    if runner.automatic and runner.name == model and load == (None, runner.options) and default_context is None:
        return None  # the usual case
    installed = facts.model(model)
    if installed is not None and installed.is_mlx:
        return None
    if runner.name != model and _adapters(facts, model) != _adapters(facts, runner.name):
        return "other adapters"
    wanted = explicit_context(installed, load.num_ctx, default_context)
    context = _context_misfit(facts, model, runner, wanted)
    if context is not None:
        return context
    if runner.options is None:
        return None
    differing = {key for key, _ in _less(runner.options, load.options) ^ load.options}
    return f"another {min(differing)}" if differing else None


def explicit_context(
    installed: InstalledModel | None, num_ctx: int | None, default_context: int | None = None
) -> int | None:
    """Return the explicit context in tokens, from request, Modelfile or server; None for automatic.

    It is at most the model's maximum, and at least 4 tokens.
    """
    facts = None if installed is None else installed.facts
    chosen = num_ctx or (facts.num_ctx if facts is not None else None) or default_context
    if chosen is None:
        return None
    longest = facts.context_length if facts is not None else None
    if longest is None and installed is not None:
        longest = installed.context_length
    return max(_LEAST_CONTEXT, chosen if longest is None else min(chosen, longest))


def _context_misfit(facts: ServerFacts, model: CanonicalName, runner: LoadedModel, wanted: int | None) -> str | None:
    """Compare contexts: two that Ollama chose always match, any others must be equal."""
    usual = facts.automatic.get(model)
    held = runner.context_length or (usual if runner.automatic else None)
    if wanted is not None:
        unknown = held is None and not runner.automatic
        return None if unknown or wanted == held else f"{wanted}"
    if runner.context_length is None:
        return None
    if runner.automatic or usual == runner.context_length:
        return None
    if usual is not None:
        return f"{usual}"
    return None if runner.automatic is None else "the server's own context"


def _less(options: LoadOptions, given: LoadOptions) -> LoadOptions:
    """Drop `num_gpu` from the options unless it was given: any loaded value matches."""
    chooses = any(key == _LAYERS for key, _ in given)
    return options if chooses else frozenset(option for option in options if option[0] != _LAYERS)


def _weights(facts: ServerFacts, model: CanonicalName) -> str | None:
    """Return the digest of the weights by which a runner is shared; None if unknown, or for the MLX runner."""
    installed = facts.installed.get(model) if facts.installed else None
    if installed is None or installed.facts is None or installed.format == MLX:
        return None
    return installed.facts.weights


def _adapters(facts: ServerFacts, model: CanonicalName) -> tuple[str, ...]:
    installed = facts.model(model)
    return () if installed is None or installed.facts is None else installed.facts.adapters
