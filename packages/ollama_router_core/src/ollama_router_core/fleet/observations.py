"""Replies of servers, and what finished requests tell, become new facts.

Unknown keys are ignored and missing ones are None: servers from v0.5 on are understood. `now` is seconds of the
snapshot's clock, `wall` seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.fleet.capacity import HeldModel
from ollama_router_core.fleet.snapshot import EMPTY, InstalledModel, LoadedModel, ModelFacts, ServerFacts
from ollama_router_core.responses.server_documents import is_version, read_document, read_rows

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
    "read_show",
    "read_version",
    "with_facts",
]

_NEVER_EXPIRES = 50 * 365 * 86400
"""A keep_alive below zero gives an `expires_at` near the year 2318."""


def observe_version(facts: ServerFacts, body: bytes, *, probe_ms: float, now: float) -> ServerFacts:
    """The server answered its probe in `probe_ms`; the body may be `/api/version` or anything else it answers."""
    known = read_version(body) or facts.version
    return replace(facts, up=True, error=None, probe_ms=probe_ms, probed_at=now, version=known)


def read_version(body: bytes) -> str | None:
    """The version that an answer to `/api/version` gives, None if it gives none that could be one."""
    try:
        version = read_document(body).values.get("version")
    except UpstreamProtocolError:
        return None
    return version if is_version(version) else None


def observe_down(facts: ServerFacts, error: str, *, now: float) -> ServerFacts:
    """The server did not answer: nothing is loaded there as far as anyone knows, its files are believed to stay."""
    gone = replace(facts, loaded=EMPTY, loading=EMPTY, loading_at=EMPTY)
    return replace(gone, up=False, error=error, probe_ms=None, probed_at=now)


def observe_tags(facts: ServerFacts, body: bytes, *, now: float) -> ServerFacts:
    """The models on disk, from `/api/tags`; facts learned from `/api/show` stay while the digest is the same.

    Raises:
        UpstreamProtocolError: the body is not what the route answers.
    """
    known = facts.installed or EMPTY
    found: dict[CanonicalName, InstalledModel] = {}
    for row in _rows(body):
        model = _installed(row)
        before = known.get(model.name)
        if before is not None and before.digest == model.digest:
            model = replace(model, facts=before.facts)
        found[model.name] = model
    return replace(facts, installed=MappingProxyType(found), installed_at=now)


def observe_ps(facts: ServerFacts, body: bytes, *, now: float, wall: float) -> ServerFacts:
    """The models in memory, from `/api/ps`. A load seen by our own traffic ends when its model appears.

    One that is being loaded anew for another context is not what it was any more, even while it is still listed.

    Raises:
        UpstreamProtocolError: the body is not what the route answers.
    """
    loaded = {model.name: model for model in (_loaded(row, now, wall) for row in _rows(body))}
    for name, context in facts.loading_at.items():
        if name in loaded and loaded[name].context_length not in {None, context}:
            del loaded[name]
    seen = replace(
        facts,
        loaded=MappingProxyType(loaded),
        loaded_at=now,
        measured=_measured(facts, loaded),
        capacity=facts.capacity.observe(_held(facts, facts.loaded), _held(facts, loaded), now),
    )
    return _without_loads(seen, loaded)


def _measured(
    facts: ServerFacts, loaded: Mapping[CanonicalName, LoadedModel]
) -> Mapping[tuple[CanonicalName, int | None], int]:
    """The sizes known, with those of what is loaded now; of models that are on disk still."""
    new = {(name, length): row.size for name, row in loaded.items() for length in (row.context_length, None)}
    if all(facts.measured.get(key) == size for key, size in new.items()):
        return facts.measured
    installed = facts.installed
    kept = {key: size for key, size in facts.measured.items() if installed is None or key[0] in installed}
    return MappingProxyType({**kept, **new})


def _held(facts: ServerFacts, loaded: Mapping[CanonicalName, LoadedModel]) -> dict[CanonicalName, HeldModel]:
    """What is in memory, with sizes; a model that was seen to answer only counts with what it took before."""
    found = {}
    for name, row in loaded.items():
        size = row.size or facts.measured.get((name, row.context_length)) or facts.measured.get((name, None)) or 0
        if size:
            found[name] = HeldModel(size, row.size_vram if row.size else size, row.expires_at)
    return found


def observe_show(facts: ServerFacts, name: CanonicalName, body: bytes) -> ServerFacts:
    """Architecture facts of one model, from `/api/show`.

    Raises:
        UpstreamProtocolError: the body is not what the route answers.
    """
    return with_facts(facts, {name: read_show(body)})


def read_show(body: bytes) -> ModelFacts:
    """The architecture that an answer to `/api/show` tells.

    Raises:
        UpstreamProtocolError: the body is not what the route answers.
    """
    return _model_facts(read_document(body).values)


def with_facts(facts: ServerFacts, learned: Mapping[CanonicalName, ModelFacts]) -> ServerFacts:
    """Architecture facts of some models, learned here or from a server that holds the same digests."""
    installed = facts.installed or EMPTY
    changed = {name: replace(installed[name], facts=found) for name, found in learned.items() if name in installed}
    return replace(facts, installed=MappingProxyType({**installed, **changed})) if changed else facts


def observe_load_started(
    facts: ServerFacts, name: CanonicalName, *, now: float, num_ctx: int | None = None
) -> ServerFacts:
    """A request was sent for a model that is not in memory there, or not with that context: it is being loaded."""
    if name in facts.loading:
        return facts
    held, wanted = facts.loaded.get(name), _context(facts, name, num_ctx)
    if held is not None and (wanted is None or held.context_length in {None, wanted}):
        return facts
    loaded, at = facts.loaded, facts.loading_at
    if held is not None:
        loaded = MappingProxyType({model: row for model, row in loaded.items() if model != name})
    if wanted is not None:
        at = MappingProxyType({**at, name: wanted})
    return replace(facts, loaded=loaded, loading=MappingProxyType({**facts.loading, name: now}), loading_at=at)


def observe_load_finished(facts: ServerFacts, name: CanonicalName, *, num_ctx: int | None, now: float) -> ServerFacts:
    """An answer began: the model is in memory there, with the context that was asked for if one was.

    Its size is 0, not measured, until `/api/ps` tells.
    """
    before = facts.loaded.get(name)
    if before is not None and num_ctx is None and not facts.loading:  # the usual case
        return facts
    wanted = None if num_ctx is None else _context(facts, name, num_ctx)
    warm = before is not None and (wanted is None or before.context_length in {None, wanted})
    if warm and name not in facts.loading:
        return facts
    entry = LoadedModel(name=name, size=0, size_vram=0, context_length=wanted)
    loaded = facts.loaded if warm else MappingProxyType({**facts.loaded, name: entry})
    return _without_loads(replace(facts, loaded=loaded, loaded_at=now), (name,))


def observe_unloaded(facts: ServerFacts, name: CanonicalName) -> ServerFacts:
    """The model left the server's memory, or its load was given up."""
    loaded = {model: row for model, row in facts.loaded.items() if model != name}
    return _without_loads(replace(facts, loaded=MappingProxyType(loaded)), (name,))


def observe_loads_ended(facts: ServerFacts) -> ServerFacts:
    """No request of ours waits there any more: what was being loaded for them is loaded or given up."""
    return replace(facts, loading=EMPTY, loading_at=EMPTY)


def _without_loads(facts: ServerFacts, models: Container[CanonicalName]) -> ServerFacts:
    """The loads of these models are over."""
    if not facts.loading:
        return facts
    loading = {name: since for name, since in facts.loading.items() if name not in models}
    at = {name: context for name, context in facts.loading_at.items() if name in loading}
    return replace(
        facts,
        loading=MappingProxyType(loading) if loading else EMPTY,
        loading_at=MappingProxyType(at) if at else EMPTY,
    )


def _context(facts: ServerFacts, name: CanonicalName, num_ctx: int | None) -> int | None:
    """The context that a server gives when it is asked for one: at most what the model was made for."""
    installed = (facts.installed or EMPTY).get(name)
    if num_ctx is None or installed is None:
        return num_ctx
    longest = installed.facts.context_length if installed.facts is not None else installed.context_length
    return num_ctx if longest is None else min(num_ctx, longest)


def forget_model(facts: ServerFacts, name: CanonicalName) -> ServerFacts:
    """The server said 404 for a model: it does not have it, and its list is due again."""
    installed = {model: row for model, row in (facts.installed or EMPTY).items() if model != name}
    gone = observe_unloaded(facts, name)
    return replace(gone, installed=MappingProxyType(installed), installed_at=None)


def _rows(body: bytes) -> list[dict[str, Any]]:
    return [row for row in read_rows(read_document(body), "models") if _name_of(row)]


def _name_of(row: Mapping[str, Any]) -> str:
    return _text(row.get("name")) or _text(row.get("model")) or ""


def _text(value: Any) -> str | None:
    """A text that can be shown; lone surrogates and control characters would break whatever writes it."""
    return value if isinstance(value, str) and value and value.isprintable() else None


def _whole(value: Any) -> int | None:
    """A count or a size; Go's are int64, so anything beyond is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def _names(value: Any) -> frozenset[str] | None:
    return frozenset(item for item in value if _text(item)) if isinstance(value, list) else None


def _installed(row: Mapping[str, Any]) -> InstalledModel:
    raw = row.get("details")
    details: Mapping[str, Any] = raw if isinstance(raw, dict) else EMPTY
    spelling = _name_of(row)
    return InstalledModel(
        name=canonical_name(spelling),
        spelling=spelling,
        size=_whole(row.get("size")) or 0,
        digest=_text(row.get("digest")) or "",
        parameter_size=_text(details.get("parameter_size")),
        quantization=_text(details.get("quantization_level")),
        family=_text(details.get("family")),
        context_length=_whole(details.get("context_length")),
        capabilities=_names(row.get("capabilities")),
        remote_host=_text(row.get("remote_host")),
    )


def _loaded(row: Mapping[str, Any], now: float, wall: float) -> LoadedModel:
    size = _whole(row.get("size")) or 0
    vram = _whole(row.get("size_vram"))
    return LoadedModel(
        name=canonical_name(_name_of(row)),
        size=size,
        size_vram=size if vram is None else vram,
        digest=_text(row.get("digest")) or "",
        context_length=_whole(row.get("context_length")),
        expires_at=_expiry(row.get("expires_at"), now, wall),
    )


def _expiry(value: Any, now: float, wall: float) -> float | None:
    try:
        moment = datetime.fromisoformat(value)
        left = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - wall
    except (TypeError, ValueError, OverflowError):
        return None
    return None if left > _NEVER_EXPIRES else now + left


def _model_facts(show: Mapping[str, Any]) -> ModelFacts:
    raw = show.get("model_info")
    info: Mapping[str, Any] = raw if isinstance(raw, dict) else EMPTY
    arch = _text(info.get("general.architecture"))

    def fact(key: str) -> Any:
        return info.get(f"{arch}.{key}")

    heads_kv = fact("attention.head_count_kv")
    per_layer = heads_kv if isinstance(heads_kv, list) else [heads_kv]
    return ModelFacts(
        architecture=arch,
        parameter_count=_whole(info.get("general.parameter_count")),
        block_count=_whole(fact("block_count")),
        context_length=_whole(fact("context_length")),
        embedding_length=_whole(fact("embedding_length")),
        head_count=_whole(fact("attention.head_count")),
        head_counts_kv=tuple(count for count in per_layer if _whole(count) is not None),
        key_length=_whole(fact("attention.key_length")),
        value_length=_whole(fact("attention.value_length")),
        sliding_window=_whole(fact("attention.sliding_window")),
        vocabulary=_whole(fact("vocab_size")),
        capabilities=_names(show.get("capabilities")),
    )
