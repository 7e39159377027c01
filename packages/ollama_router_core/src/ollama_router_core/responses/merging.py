"""Responses merged from all servers: lists in Ollama's, OpenAI's and Anthropic's formats.

Rows keep every field as the server sent it. An invalid body counts as absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from ollama_router_core.api.model_names import (
    CanonicalName,
    canonical_name,
    is_converted_copy,
    is_model_name,
    parse_model_name,
)
from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.responses.server_documents import is_version, read_document, read_rows

__all__ = [
    "ListedModel",
    "anthropic_model",
    "anthropic_models",
    "find_openai_model",
    "lowest_version",
    "merge_openai_models",
    "merge_ps",
    "merge_status",
    "merge_tags",
    "openai_from_tags",
]

Bodies = Mapping[str, bytes]
"""Response bodies by server."""

Row = Mapping[str, Any]
"""One model, as a server lists it. `extra` rows are models from the config that no server lists."""

_LAST_SECOND = 253_402_300_799  # of the year 9999
_NEVER = datetime.min.replace(tzinfo=UTC)
NO_ALIASES: Mapping[str, str] = MappingProxyType({})


def _visible_to_all(_row: Row) -> bool:
    return True


def merge_tags(
    bodies: Bodies,
    extra: Iterable[Row] = (),
    *,
    aliases: Mapping[str, str] = NO_ALIASES,
    may_see: Callable[[Row], bool] = _visible_to_all,
) -> bytes:
    """Merge `/api/tags`: the union, with one row per name and digest.

    `aliases` maps further names to models; they are listed if their model is.
    """
    rows: dict[tuple[CanonicalName, str], Row] = {}
    for row in _rows(bodies, "models", may_see):
        rows.setdefault((_name(row), str(row.get("digest"))), row)
    known = {name for name, _ in rows}
    added = [row for row in extra if _name(row) not in known]
    added += _aliased([*rows.values(), *added], aliases, _tags_alias)
    if len(bodies) == 1 and not added and (whole := _untouched(bodies, "models", rows.values())):
        return whole
    ordered = list(rows.values())
    if len(bodies) > 1:
        ordered.sort(key=lambda row: _moment(row.get("modified_at")), reverse=True)
    return _dump({"models": [*ordered, *added]})


def _aliased(
    rows: Iterable[Row], aliases: Mapping[str, str], row_of: Callable[[str, Row], dict[str, Any]]
) -> list[Row]:
    """Return the rows of aliases, in order, except those that are a model's own name."""
    if not aliases:
        return []
    known = {_name(row): row for row in rows}
    found = ((alias, known.get(canonical_name(meant))) for alias, meant in aliases.items())
    return [row_of(alias, row) for alias, row in found if row is not None and canonical_name(alias) not in known]


def _tags_alias(alias: str, row: Row) -> dict[str, Any]:
    """Build the row of an alias in `/api/tags`, with `remote_model` and `parent_model` naming its model."""
    meant = str(row.get("name") or row.get("model"))
    details = row.get("details")
    details = {**details, "parent_model": meant} if isinstance(details, dict) else {"parent_model": meant}
    return {"remote_model": meant, **row, "name": alias, "model": alias, "details": details}


def _openai_alias(alias: str, row: Row) -> dict[str, Any]:
    return {**row, "id": alias}


def merge_ps(bodies: Bodies, *, may_see: Callable[[Row], bool] = _visible_to_all) -> bytes:
    """Merge `/api/ps`: every loaded model of every server, latest expiry first."""
    rows = list(_rows(bodies, "models", may_see))
    if len(bodies) == 1 and (whole := _untouched(bodies, "models", rows)):
        return whole
    if len(bodies) > 1:
        rows.sort(key=lambda row: _moment(row.get("expires_at")), reverse=True)
    return _dump({"models": rows})


def merge_openai_models(
    bodies: Bodies,
    extra: Iterable[Row] = (),
    *,
    aliases: Mapping[str, str] = NO_ALIASES,
    may_see: Callable[[Row], bool] = _visible_to_all,
) -> bytes:
    """Merge `/v1/models`: the union by id, then models from the config. An empty list is null, as in Ollama."""
    rows: dict[CanonicalName, Row] = {}
    for row in _rows(bodies, "data", may_see):
        rows.setdefault(_name(row), row)
    added = [row for row in extra if _name(row) not in rows]
    added += _aliased([*rows.values(), *added], aliases, _openai_alias)
    if len(bodies) == 1 and not added and (whole := _untouched(bodies, "data", rows.values())):
        return whole
    ordered = list(rows.values())
    if len(bodies) > 1:
        ordered.sort(key=lambda row: -_number(row.get("created")))
    return _dump({"object": "list", "data": [*ordered, *added] or None}) + b"\n"


class ListedModel(Struct, frozen=True):
    """Details in Anthropic's list; `context` and `output` are maximum tokens, None if unknown."""

    title: str
    context: int | None = None
    output: int | None = None


def anthropic_models(models: bytes, details: Callable[[str], ListedModel]) -> bytes:
    """Convert a merged `/v1/models` to Anthropic's format, on one page.

    `details` returns the details of a model by its id.
    """
    rows = [_anthropic_row(row, details) for row in _rows({"": models}, "data", _visible_to_all)]
    edges = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {"first_id": None, "last_id": None}
    return _dump({"data": rows, "has_more": False, **edges})


def anthropic_model(model: bytes, details: Callable[[str], ListedModel]) -> bytes:
    """Convert a `/v1/models/{model}` response to Anthropic's format."""
    return _dump(_anthropic_row(json.loads(model), details))


def _anthropic_row(row: Row, details: Callable[[str], ListedModel]) -> dict[str, Any]:
    name = str(row.get("id"))
    created = datetime.fromtimestamp(min(max(_number(row.get("created")), 0), _LAST_SECOND), tz=UTC)
    listed = details(name)
    entry = {"type": "model", "id": name, "display_name": listed.title, "created_at": f"{created:%Y-%m-%dT%H:%M:%SZ}"}
    limits = {"max_input_tokens": listed.context, "max_tokens": listed.output}
    return {**entry, **{key: most for key, most in limits.items() if most is not None}}


def find_openai_model(
    bodies: Bodies,
    extra: Iterable[Row],
    asked: str,
    *,
    meant: str | None = None,
    may_see: Callable[[Row], bool] = _visible_to_all,
) -> bytes | None:
    """Answer `/v1/models/{model}`: the model's row under the requested id, None if no server has it.

    `meant` is the model's name if the id is an alias.
    """
    wanted = canonical_name(asked if meant is None else meant)
    own = (row for row in _rows(bodies, "data", may_see) if _name(row) == wanted)
    configured = (row for row in extra if _name(row) == wanted)
    found = next((row for rows in (own, configured) for row in rows), None)
    return None if found is None else _dump({**found, "id": asked}) + b"\n"


def openai_from_tags(body: bytes) -> bytes:
    """Build a server's `/v1/models` from its `/api/tags`, as Ollama does."""
    rows = [
        {
            "id": str(row.get("name")),
            "object": "model",
            "created": max(0, int(_moment(row.get("modified_at")).timestamp())),
            "owned_by": _owner(str(row.get("name"))),
        }
        for row in _rows({"": body}, "models", _visible_to_all)
    ]
    return _dump({"object": "list", "data": rows or None}) + b"\n"


def _owner(name: str) -> str:
    return parse_model_name(name).namespace if is_model_name(name) else ""


def merge_status(bodies: Bodies, *, allowed: bool) -> bytes:
    """Merge `/api/status`: the cloud is enabled if some server enables it and the user may use it."""
    found = [cloud for body in bodies.values() if isinstance(cloud := _object(body).get("cloud"), dict)]
    if not allowed:
        return _dump({"cloud": {"disabled": True, "source": "config"}})
    if len(bodies) == len(found) == 1:
        return next(iter(bodies.values()))
    best = min(found, key=lambda cloud: bool(cloud.get("disabled")), default={"disabled": False, "source": "none"})
    return _dump({"cloud": best})


def lowest_version(bodies: Bodies) -> str | None:
    """Return the oldest version among `/api/version` bodies, so that clients use only features of all servers."""
    found = [version for body in bodies.values() if is_version(version := _object(body).get("version"))]
    return min(found, key=_version_key, default=None)


def _version_key(text: str) -> tuple[tuple[int, ...], bool, str]:
    core, dash, rest = text.partition("-")
    return tuple(int(number) for number in re.findall(r"\d+", core)), not dash, rest


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        return read_document(body).values
    except UpstreamProtocolError:
        return {}


def _rows(bodies: Bodies, key: str, may_see: Callable[[Row], bool]) -> Iterator[Row]:
    for server in sorted(bodies):
        try:
            rows = read_rows(read_document(bodies[server]), key)
        except UpstreamProtocolError:
            continue
        for row in rows:
            if may_see(row) and not is_converted_copy(_name(row)):
                yield row


def _untouched(bodies: Bodies, key: str, rows: Iterable[Row]) -> bytes | None:
    """Return the only server's body if its rows are unchanged, else None."""
    (body,) = bodies.values()
    try:
        document = read_document(body)
    except UpstreamProtocolError:
        return None
    values = document.values
    same = not document.left_out and key in values and (values[key] or []) == list(rows)
    return body if same else None


def _name(row: Row) -> CanonicalName:
    return canonical_name(str(row.get("name") or row.get("model") or row.get("id") or ""))


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0


def _moment(value: Any) -> datetime:
    """Parse an RFC 3339 time for ordering; anything else sorts as the earliest."""
    try:
        found = datetime.fromisoformat(value)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (TypeError, ValueError):
        return _NEVER


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
