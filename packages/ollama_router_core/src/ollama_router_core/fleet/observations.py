"""Replies of servers, and what finished requests tell, become new facts.

Unknown keys are ignored and missing ones are None: servers from v0.5 on are understood. `now` is seconds of the
snapshot's clock, `wall` seconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from ollama_router_core.api.endpoints import parse_version
from ollama_router_core.api.model_names import CanonicalName, canonical_name, is_converted_copy
from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.fleet.capacity import HeldModel, driven_out
from ollama_router_core.fleet.memory import share_on_cpu
from ollama_router_core.fleet.runners import Load, explicit_context, misfit, runner_of
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

_ANY = Load()
_WHATEVER = 0
"""Tokens of a context that Ollama is choosing: what is listed meanwhile is the runner from before."""
_BLOB = re.compile(r"(?P<instruction>FROM|ADAPTER)\s+\S*sha256[-:](?P<digest>[0-9a-f]{64})\s*")
_LONGEST_MODELFILE = 1 << 20  # characters; licenses are in it
_NAME_AND_VALUE = 2
_MOST_MEASURED = 512
_INCOMPLETE_FROM, _COMPLETE_FROM = (0, 30), (0, 34, 1)
_NEVER_EXPIRES = 50 * 365 * 86400
"""A keep_alive below zero gives an `expires_at` near the year 2318."""


def observe_version(facts: ServerFacts, body: bytes, *, probe_ms: float, now: float) -> ServerFacts:
    """The server answered its probe in `probe_ms`; the body may be `/api/version` or anything else it answers."""
    known = read_version(body) or facts.version
    missing = facts.missing_routes if known == facts.version else frozenset[str]()
    return replace(facts, up=True, error=None, probe_ms=probe_ms, probed_at=now, version=known, missing_routes=missing)


def read_version(body: bytes) -> str | None:
    """The version that an answer to `/api/version` gives, None if it gives none that could be one."""
    try:
        version = read_document(body).values.get("version")
    except UpstreamProtocolError:
        return None
    return version if is_version(version) else None


def observe_down(facts: ServerFacts, error: str, *, now: float) -> ServerFacts:
    """The server did not answer: nothing is loaded there as far as anyone knows, its files are believed to stay."""
    gone = replace(facts, loaded=EMPTY, loading=EMPTY, loading_at=EMPTY, driven_out=EMPTY)
    return replace(gone, up=False, error=error, probe_ms=None, probed_at=now)


def observe_tags(facts: ServerFacts, body: bytes, *, now: float) -> ServerFacts:
    """The models on disk, from `/api/tags`; facts learned from `/api/show` stay while the digest is the same.

    Raises:
        UpstreamProtocolError: the body is not what the route answers.
    """
    known = facts.installed or EMPTY
    found: dict[CanonicalName, InstalledModel] = {}
    for row in _rows(body):
        model = _installed(row, facts.version)
        if is_converted_copy(model.name):
            continue
        before = known.get(model.name)
        if before is not None and before.digest == model.digest:
            model = replace(model, facts=before.facts)
        found[model.name] = model
    return replace(facts, installed=MappingProxyType(found), installed_at=now)


def observe_ps(facts: ServerFacts, body: bytes, *, now: float, wall: float, asked: float | None = None) -> ServerFacts:
    """The models in memory, from `/api/ps`. A load seen by our own traffic ends when its model appears.

    One that is being loaded anew for another context is not what it was any more, even while it is still listed. What
    our traffic loaded it with is known as long as its context stays. What our traffic showed since the server was
    `asked` (at `now` without that) is newer than the report. A model that was seen to answer since the last report has
    come, for what is learned of the memory, and what is gone had to make room for it; so had what went while it was
    being loaded.

    Raises:
        UpstreamProtocolError: the body is not what the route answers.
    """
    asked = now if asked is None else asked
    loaded, outdated = _by_name(facts, [_loaded(row, now, wall) for row in _rows(body)])
    newer = {name: at for name, at in facts.noted.items() if at > asked}
    reported = {name: row for name, row in loaded.items() if name not in newer}
    before = {
        name: row for name, row in facts.loaded.items() if name not in newer and (row.size or name not in reported)
    }
    loaded = {**reported, **{name: facts.loaded[name] for name in newer if name in facts.loaded}}
    for name, context in facts.loading_at.items():
        if name in loaded and loaded[name].context_length not in {None, context}:
            del loaded[name]
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


def _measured(
    facts: ServerFacts, loaded: Mapping[CanonicalName, LoadedModel]
) -> Mapping[tuple[CanonicalName, int | None], int]:
    """The sizes known, with those of what is loaded now; of models that are on disk still.

    A model of the MLX runner takes more with use: of its sizes the largest is kept.
    """
    new = {(name, length): row.held for name, row in loaded.items() for length in (row.context_length, None)}
    installed = facts.installed
    for key, size in tuple(new.items()):
        if installed is not None and key[0] in installed and installed[key[0]].format == "safetensors":
            new[key] = max(size, facts.measured.get(key) or 0)
    if all(facts.measured.get(key) == size for key, size in new.items()):
        return facts.measured
    kept = {key: size for key, size in facts.measured.items() if installed is None or key[0] in installed}
    return MappingProxyType({**kept, **new})


def _on_cpu(facts: ServerFacts, loaded: Mapping[CanonicalName, LoadedModel]) -> Mapping[CanonicalName, float]:
    """The models that are known to be partly on the CPU, with their shares; one that is whole now is none of them."""
    shares = {name: share for name, row in loaded.items() if (share := share_on_cpu(facts, row))}
    kept = {
        name: share for name, share in facts.on_cpu.items() if name not in loaded and name in (facts.installed or ())
    }
    return MappingProxyType({**kept, **shares}) if kept or shares else EMPTY


def _held(facts: ServerFacts, loaded: Mapping[CanonicalName, LoadedModel]) -> dict[CanonicalName, HeldModel]:
    """What is in memory, with sizes; a model that was seen to answer only counts with what it took before."""
    found = {}
    for name, row in loaded.items():
        size = row.size or facts.measured.get((name, row.context_length)) or facts.measured.get((name, None)) or 0
        if size:
            found[name] = HeldModel(size, row.size_vram if row.size else size, row.expires_at)
    return found


def _by_name(
    facts: ServerFacts, rows: Iterable[LoadedModel]
) -> tuple[dict[CanonicalName, LoadedModel], tuple[LoadedModel, ...]]:
    """Return the runner of each name, with what was known of it, and those of files that the name had before."""
    found: dict[CanonicalName, LoadedModel] = {}
    outdated: list[LoadedModel] = []
    for new in rows:
        row = _remembered(facts.loaded.get(new.name), new)
        installed = facts.installed.get(row.name) if facts.installed else None
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
    facts: ServerFacts, name: CanonicalName, *, now: float, load: Load = _ANY, default_context: int | None = None
) -> ServerFacts:
    """A request was sent for a model that is not in memory there, or not as the request wants it: it is being loaded.

    `default_context` is the server's own in tokens, when its operator told it.
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
    if held is not None:
        at = MappingProxyType({**at, name: wanted or _WHATEVER})
    elif wanted is not None:
        at = MappingProxyType({**at, name: wanted})
    return replace(facts, loaded=loaded, loading=MappingProxyType({**facts.loading, name: now}), loading_at=at)


def observe_load_finished(
    facts: ServerFacts, name: CanonicalName, *, now: float, load: Load = _ANY, default_context: int | None = None
) -> ServerFacts:
    """An answer began: the model is in memory there, with the context that was asked for if one was.

    Its size is 0, not measured, until `/api/ps` tells. One that names of the same weights share keeps the name that
    loaded it.
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
    """The model left the server's memory, or its load was given up."""
    gone = runner_of(facts, name)
    loaded = {model: row for model, row in facts.loaded.items() if row is not gone}
    left = gone.name if gone is not None else name if name in facts.loading else None
    noted = facts.noted if left is None else MappingProxyType({**facts.noted, left: now})
    return _without_loads(replace(facts, loaded=MappingProxyType(loaded), noted=noted), (name,))


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


def _context(facts: ServerFacts, name: CanonicalName, load: Load, default_context: int | None) -> int | None:
    """The context that somebody chose, at most what the model was made for; None for what Ollama chooses."""
    return explicit_context(facts.installed.get(name) if facts.installed else None, load.num_ctx, default_context)


def forget_model(facts: ServerFacts, name: CanonicalName, *, now: float) -> ServerFacts:
    """The server said 404 for a model: it does not have it, and its list is due again."""
    installed = {model: row for model, row in (facts.installed or EMPTY).items() if model != name}
    gone = observe_unloaded(facts, name, now=now)
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


def _installed(row: Mapping[str, Any], version: str | None) -> InstalledModel:
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
        format=_text(details.get("format")),
        context_length=_whole(details.get("context_length")),
        capabilities=None if _tells_too_little(version) else _names(row.get("capabilities")),
        remote_host=_text(row.get("remote_host")),
    )


def _tells_too_little(version: str | None) -> bool:
    """Whether `/api/tags` of a version may leave out capabilities that a model has: a missing one is no "no"."""
    return _INCOMPLETE_FROM <= parse_version(version) < _COMPLETE_FROM


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
        weights=next(iter(_blobs(show, "FROM")), None),
        adapters=_blobs(show, "ADAPTER"),
        num_ctx=_parameter(show, "num_ctx"),
    )


def _blobs(show: Mapping[str, Any], instruction: str) -> tuple[str, ...]:
    """Return the digests of the files that a Modelfile's lines of one kind name."""
    found = (_BLOB.fullmatch(line) for line in _lines(show.get("modelfile")))
    return tuple(one["digest"] for one in found if one is not None and one["instruction"] == instruction)


def _parameter(show: Mapping[str, Any], name: str) -> int | None:
    """Return the whole number that a Modelfile sets a parameter to; the last one counts."""
    lines = (line.split(maxsplit=1) for line in _lines(show.get("parameters")))
    values = [line[1].strip() for line in lines if len(line) == _NAME_AND_VALUE and line[0] == name]
    return int(values[-1]) if values and values[-1].isascii() and values[-1].isdigit() else None


def _lines(value: Any) -> list[str]:
    return value.splitlines() if isinstance(value, str) and len(value) <= _LONGEST_MODELFILE else []
