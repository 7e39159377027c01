"""Parses servers' replies.

Unknown keys are ignored and missing ones are None; servers from v0.5 are supported. `now` is in seconds of the
snapshot's clock, `wall` in seconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ollama_router_core.api.endpoints import parse_version
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.fleet.snapshot import EMPTY, InstalledModel, LoadedModel, ModelFacts
from ollama_router_core.responses.server_documents import is_version, read_document, read_rows

__all__ = ["read_ps", "read_show", "read_tags", "read_version", "version_fault"]

_BLOB = re.compile(r"(?P<instruction>FROM|ADAPTER)\s+\S*sha256[-:](?P<digest>[0-9a-f]{64})\s*")
_LONGEST_MODELFILE = 1 << 20  # characters; licenses are in it
_NAME_AND_VALUE = 2
_OK = 200
_INCOMPLETE_FROM, _COMPLETE_FROM = (0, 30), (0, 34, 1)
_NEVER_EXPIRES = 50 * 365 * 86400
"""A negative keep_alive gives an `expires_at` near the year 2318."""


def read_version(body: bytes) -> str | None:
    """Read the version in a reply to `/api/version`, None without a plausible one."""
    try:
        version = read_document(body).values.get("version")
    except UpstreamProtocolError:
        return None
    return version if is_version(version) else None


def version_fault(status: int, body: bytes) -> str | None:
    """Return why a reply to `/api/version` is not Ollama's; None if it is."""
    if status == _OK and read_version(body) is not None:
        return None
    return f"answered /api/version {'without a version' if status == _OK else f'with {status}'}: is this Ollama?"


def read_tags(body: bytes, version: str | None) -> list[InstalledModel]:
    """Read the models on disk in a reply to `/api/tags` of a server of this version.

    Raises:
        UpstreamProtocolError: the body is invalid for the route.
    """
    return [_installed(row, version) for row in _rows(body)]


def read_ps(body: bytes, now: float, wall: float) -> list[LoadedModel]:
    """Read the models in memory in a reply to `/api/ps`.

    Raises:
        UpstreamProtocolError: the body is invalid for the route.
    """
    return [_loaded(row, now, wall) for row in _rows(body)]


def read_show(body: bytes) -> ModelFacts:
    """Read the architecture in a reply to `/api/show`.

    Raises:
        UpstreamProtocolError: the body is invalid for the route.
    """
    return _model_facts(read_document(body).values)


def _rows(body: bytes) -> list[dict[str, Any]]:
    return [row for row in read_rows(read_document(body), "models") if _name_of(row)]


def _name_of(row: Mapping[str, Any]) -> str:
    return _text(row.get("name")) or _text(row.get("model")) or ""


def _text(value: Any) -> str | None:
    """Return a printable text, else None; lone surrogates and control characters would break its output."""
    return value if isinstance(value, str) and value and value.isprintable() else None


def _whole(value: Any) -> int | None:
    """Return a value if it is a count or a size within Go's int64, else None."""
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
    """Whether `/api/tags` of a version may omit capabilities, so that a missing one proves nothing."""
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
        expert_count=_whole(fact("expert_count")),
        expert_used_count=_whole(fact("expert_used_count")),
        ssm_conv_kernel=_whole(fact("ssm.conv_kernel")),
        ssm_inner_size=_whole(fact("ssm.inner_size")),
        ssm_state_size=_whole(fact("ssm.state_size")),
        ssm_group_count=_whole(fact("ssm.group_count")),
        capabilities=_names(show.get("capabilities")),
        weights=next(iter(_blobs(show, "FROM")), None),
        adapters=_blobs(show, "ADAPTER"),
        num_ctx=_parameter(show, "num_ctx"),
    )


def _blobs(show: Mapping[str, Any], instruction: str) -> tuple[str, ...]:
    """Return the digests of the files in a Modelfile's lines of one instruction."""
    found = (_BLOB.fullmatch(line) for line in _lines(show.get("modelfile")))
    return tuple(one["digest"] for one in found if one is not None and one["instruction"] == instruction)


def _parameter(show: Mapping[str, Any], name: str) -> int | None:
    """Return the integer value of a Modelfile's parameter; the last one counts."""
    lines = (line.split(maxsplit=1) for line in _lines(show.get("parameters")))
    values = [line[1].strip() for line in lines if len(line) == _NAME_AND_VALUE and line[0] == name]
    return int(values[-1]) if values and values[-1].isascii() and values[-1].isdigit() else None


def _lines(value: Any) -> list[str]:
    return value.splitlines() if isinstance(value, str) and len(value) <= _LONGEST_MODELFILE else []
