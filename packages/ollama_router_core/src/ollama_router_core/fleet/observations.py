"""New facts from servers' replies and from requests.

`now` is in seconds of the snapshot's clock, `wall` in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from ollama_router_core.api.model_names import CanonicalName, is_converted_copy
from ollama_router_core.fleet.capacity import HeldModel, driven_out
from ollama_router_core.fleet.memory.placement import share_on_cpu
from ollama_router_core.fleet.runners import Load, explicit_context, misfit, runner_of
from ollama_router_core.fleet.server_replies import read_ps, read_show, read_tags, read_version
from ollama_router_core.fleet.snapshot import EMPTY, InstalledModel, LoadedModel, ModelFacts, ServerFacts

__all__ = [
    "forget_model",
    "observe_down",
    "observe_load_finished",
    "observe_load_started",
    "observe_loads_ended",
    "observe_ps",
    "observe_show",
    "observe_tags",
    "observe_unloaded",
    "observe_version",
    "with_facts",
]

_ANY = Load()
_WHATEVER = 0
"""Placeholder, in tokens, for a context that Ollama is choosing; until then `/api/ps` lists the previous runner."""


def observe_version(facts: ServerFacts, body: bytes, *, probe_ms: float, now: float) -> ServerFacts:
    """Record a probe's reply after `probe_ms`; the body may have any content."""
    known = read_version(body) or facts.version
    missing = facts.missing_routes if known == facts.version else frozenset[str]()
    return replace(facts, up=True, error=None, probe_ms=probe_ms, probed_at=now, version=known, missing_routes=missing)


def observe_down(facts: ServerFacts, error: str, *, now: float) -> ServerFacts:
    """Record a server as down: its memory is unknown, its files are assumed unchanged."""
    gone = replace(facts, loaded=EMPTY, loading=EMPTY, loading_at=EMPTY, driven_out=EMPTY)
    return replace(gone, up=False, error=error, probe_ms=None, probed_at=now)


def observe_tags(facts: ServerFacts, body: bytes, *, now: float) -> ServerFacts:
    """Record the models on disk, from `/api/tags`; keep facts from `/api/show` while the digest is the same.

    Raises:
        UpstreamProtocolError: the body is invalid for the route.
    """
    known = facts.installed or EMPTY
    found: dict[CanonicalName, InstalledModel] = {}
    for model in read_tags(body, facts.version):
        if is_converted_copy(model.name):
            continue
        before = known.get(model.name)
        unchanged = before is not None and before.digest == model.digest
        found[model.name] = replace(model, facts=before.facts) if before and unchanged else model
    return replace(facts, installed=MappingProxyType(found), installed_at=now)


def observe_ps(facts: ServerFacts, body: bytes, *, now: float, wall: float, asked: float | None = None) -> ServerFacts:
    """Record the models in memory, from `/api/ps`. A load by the router's traffic ends when its model appears.

    A model being reloaded with another context counts as not loaded, even if it is still listed. The options with which
    the router's traffic loaded a model are kept while its context is unchanged. Observations of the router's traffic
    after `asked`, the time of the poll (default `now`), are newer than the report. For the learned memory capacity, a
    model first seen in a response counts as loaded, and models that disappear with it or during its load as evicted.

    Raises:
        UpstreamProtocolError: the body is invalid for the route.
    """
    asked = now if asked is None else asked
    loaded, outdated = _by_name(facts, read_ps(body, now, wall))
    newer = {name: at for name, at in facts.noted.items() if at > asked}
    reported = {name: row for name, row in loaded.items() if name not in newer}
    before = {
        name: row for name, row in facts.loaded.items() if name not in newer and (row.size or name not in reported)
    }
    loaded = _believed(facts, reported, newer)
    held, holds = {**facts.driven_out, **_held(facts, before)}, _held(facts, reported)
    comes = any(name not in reported for name in facts.loading)
    chosen = {row.name: row.context_length for row in loaded.values() if row.automatic and row.context_length}
    automatic = {**facts.automatic, **chosen}
    seen = replace(
        facts,
        loaded=MappingProxyType(loaded),
        outdated=outdated,
        loaded_at=asked,
        noted=MappingProxyType(newer) if newer else EMPTY,
        automatic=facts.automatic if automatic == facts.automatic else MappingProxyType(automatic),
        measured=_measured(facts, reported),
        on_cpu=_on_cpu(facts, reported),
        capacity=facts.capacity.observe(held, holds, now),
        driven_out=driven_out(held, holds, now) if comes else EMPTY,
    )
    return _without_loads(seen, loaded)


def _believed(
    facts: ServerFacts, reported: Mapping[CanonicalName, LoadedModel], newer: Collection[CanonicalName]
) -> dict[CanonicalName, LoadedModel]:
    """Merge the reported models with those that the router's traffic has shown since."""
    loaded = {**reported, **{name: facts.loaded[name] for name in newer if name in facts.loaded}}
    for name, context in facts.loading_at.items():
        if name in loaded and loaded[name].context_length not in {None, context}:
            del loaded[name]
    return loaded


def _measured(
    facts: ServerFacts, loaded: Mapping[CanonicalName, LoadedModel]
) -> Mapping[tuple[CanonicalName, int | None], int]:
    """Return the measured sizes, updated with the loaded models, of models that are still on disk.

    The MLX runner's memory grows with use, so its maximum is kept.
    """
    new = {(name, length): row.held for name, row in loaded.items() for length in (row.context_length, None)}
    installed = facts.installed
    for key, size in tuple(new.items()):
        if installed is not None and key[0] in installed and installed[key[0]].is_mlx:
            new[key] = max(size, facts.measured.get(key) or 0)
    if all(facts.measured.get(key) == size for key, size in new.items()):
        return facts.measured
    kept = {key: size for key, size in facts.measured.items() if installed is None or key[0] in installed}
    return MappingProxyType({**kept, **new})


def _on_cpu(facts: ServerFacts, loaded: Mapping[CanonicalName, LoadedModel]) -> Mapping[CanonicalName, float]:
    """Return the CPU shares of models partly on the CPU; a model now entirely on the GPUs is removed."""
    shares = {name: share for name, row in loaded.items() if (share := share_on_cpu(facts, row))}
    kept = {
        name: share for name, share in facts.on_cpu.items() if name not in loaded and name in (facts.installed or ())
    }
    return MappingProxyType({**kept, **shares}) if kept or shares else EMPTY


def _held(facts: ServerFacts, loaded: Mapping[CanonicalName, LoadedModel]) -> dict[CanonicalName, HeldModel]:
    """Return the models in memory with sizes; a model not yet reported counts with its last measured size."""
    found = {}
    for name, row in loaded.items():
        size = row.size or facts.measured.get((name, row.context_length)) or facts.measured.get((name, None)) or 0
        if size:
            found[name] = HeldModel(size, row.size_vram if row.size else size, row.expires_at)
    return found


def _by_name(
    facts: ServerFacts, rows: Iterable[LoadedModel]
) -> tuple[dict[CanonicalName, LoadedModel], tuple[LoadedModel, ...]]:
    """Return the runner of each name with its known load options, and outdated runners of earlier files."""
    found: dict[CanonicalName, LoadedModel] = {}
    outdated: list[LoadedModel] = []
    for new in rows:
        row = _remembered(facts.loaded.get(new.name), new)
        installed = facts.model(row.name)
        if row.name not in found:
            found[row.name] = row
        elif installed is not None and installed.digest == row.digest:
            outdated.append(found[row.name])
            found[row.name] = row
        else:
            outdated.append(row)
    return found, tuple(outdated)


def _remembered(before: LoadedModel | None, row: LoadedModel) -> LoadedModel:
    same = before is not None and before.context_length in {None, row.context_length}
    if before is None or not same or before.digest not in {"", row.digest}:
        return row
    return replace(row, automatic=before.automatic, options=before.options)


def observe_show(facts: ServerFacts, name: CanonicalName, body: bytes) -> ServerFacts:
    """Record the architecture of one model, from `/api/show`.

    Raises:
        UpstreamProtocolError: the body is invalid for the route.
    """
    return with_facts(facts, {name: read_show(body)})


def with_facts(facts: ServerFacts, learned: Mapping[CanonicalName, ModelFacts]) -> ServerFacts:
    """Record the architecture of models, from this server or another with the same digests."""
    installed = facts.installed or EMPTY
    changed = {name: replace(installed[name], facts=found) for name, found in learned.items() if name in installed}
    return replace(facts, installed=MappingProxyType({**installed, **changed})) if changed else facts


def observe_load_started(
    facts: ServerFacts, name: CanonicalName, *, now: float, load: Load = _ANY, default_context: int | None = None
) -> ServerFacts:
    """Record a sent request for a model that is not in memory with its options as a load in progress.

    `default_context` is the server's configured default in tokens.
    """
    if name in facts.loading:
        return facts
    held = runner_of(facts, name)
    if held is not None and misfit(facts, name, held, load, default_context) is None:
        return facts
    wanted = _context(facts, name, load, default_context)
    loaded, at = facts.loaded, facts.loading_at
    if held is not None:
        loaded = MappingProxyType({model: row for model, row in loaded.items() if row is not held})
        at = MappingProxyType({**at, name: wanted or _WHATEVER})
    elif wanted is not None:
        at = MappingProxyType({**at, name: wanted})
    return replace(facts, loaded=loaded, loading=MappingProxyType({**facts.loading, name: now}), loading_at=at)


def observe_load_finished(
    facts: ServerFacts, name: CanonicalName, *, now: float, load: Load = _ANY, default_context: int | None = None
) -> ServerFacts:
    """Record the start of a response: the model is in memory, with the requested context if any.

    Its size is 0, not measured, until `/api/ps` reports it. A runner shared by names of the same weights keeps the name
    that loaded it.
    """
    before = runner_of(facts, name)
    warm = before is not None and misfit(facts, name, before, load, default_context) is None
    if warm and name not in facts.loading:
        return facts
    wanted = _context(facts, name, load, default_context)
    entry = LoadedModel(
        name=name,
        size=0,
        size_vram=0,
        context_length=wanted,
        automatic=wanted is None,
        options=load.options,
    )
    others = {model: row for model, row in facts.loaded.items() if row is not before}
    loaded = facts.loaded if warm else MappingProxyType({**others, name: entry})
    noted = MappingProxyType({**facts.noted, before.name if before is not None and warm else name: now})
    return _without_loads(replace(facts, loaded=loaded, loaded_at=now, noted=noted), (name,))


def observe_unloaded(facts: ServerFacts, name: CanonicalName, *, now: float) -> ServerFacts:
    """Record that a model left the server's memory, or that its load was abandoned."""
    gone = runner_of(facts, name)
    loaded = {model: row for model, row in facts.loaded.items() if row is not gone}
    left = gone.name if gone is not None else name if name in facts.loading else None
    noted = facts.noted if left is None else MappingProxyType({**facts.noted, left: now})
    return _without_loads(replace(facts, loaded=MappingProxyType(loaded), noted=noted), (name,))


def observe_loads_ended(facts: ServerFacts) -> ServerFacts:
    """End all loads in progress, as no request of the router waits there any more."""
    return replace(facts, loading=EMPTY, loading_at=EMPTY)


def _without_loads(facts: ServerFacts, models: Container[CanonicalName]) -> ServerFacts:
    """End the loads of these models."""
    if not facts.loading:
        return facts
    loading = {name: since for name, since in facts.loading.items() if name not in models}
    at = {name: context for name, context in facts.loading_at.items() if name in loading}
    return replace(
        facts,
        loading=MappingProxyType(loading) if loading else EMPTY,
        loading_at=MappingProxyType(at) if at else EMPTY,
    )


def _context(facts: ServerFacts, name: CanonicalName, load: Load, default_context: int | None) -> int | None:
    """Return the explicit context, at most the model's maximum; None if Ollama chooses."""
    return explicit_context(facts.model(name), load.num_ctx, default_context)


def forget_model(facts: ServerFacts, name: CanonicalName, *, now: float) -> ServerFacts:
    """Delete a model after a 404, and mark the server's list as stale."""
    installed = {model: row for model, row in (facts.installed or EMPTY).items() if model != name}
    gone = observe_unloaded(facts, name, now=now)
    return replace(gone, installed=MappingProxyType(installed), installed_at=None)
