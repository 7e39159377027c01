"""A fleet as a JSON file: the servers' responses at some time, to explain a decision offline.

    {"servers": {"big": {"version": "0.32.15", "probe_ms": 3.1, "in_flight": 0, "error": null,
                         "tags": <body of /api/tags>, "ps": <body of /api/ps>,
                         "show": {"llama3.1:8b": <body of /api/show>}}}}

Every key is optional. A server is up unless it has an `error`; a server of the config that is missing from the file
counts as not probed yet. `curl http://big:11434/api/tags` is enough to write one by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from ollama_router_cli.errors import CommandFailed
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.fleet.observations import observe_down, observe_ps, observe_show, observe_tags, observe_version
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts

__all__ = ["read_snapshot"]

_KEYS = frozenset({"version", "probe_ms", "in_flight", "error", "tags", "ps", "show"})


def read_snapshot(path: Path, known: Mapping[str, object], *, now: float, wall: float) -> FleetSnapshot:
    """Read a snapshot file.

    Args:
        path: the file.
        known: servers of the config, by name.
        now: seconds of the monotonic clock.
        wall: seconds since 1970, for expiry times.

    Raises:
        CommandFailed: the file cannot be read or is invalid; the message names the server and the key.
    """
    servers = _object(_load(path).get("servers"), f"{path}: servers")
    strangers = sorted(set(servers) - set(known))
    if strangers:
        has = ", ".join(sorted(known)) or "none"
        raise CommandFailed(f"{path}: the config has no server named {', '.join(strangers)}; it has {has}")
    facts: dict[str, ServerFacts] = {}
    in_flight: dict[str, int] = {}
    for name, written in servers.items():
        where = f"{path}: servers.{name}"
        entry = _object(written, where)
        unknown = sorted(set(entry) - _KEYS)
        if unknown:
            raise CommandFailed(f"{where}: unknown key {unknown[0]}; known: {', '.join(sorted(_KEYS))}")
        in_flight[name] = int(_number(entry.get("in_flight", 0), f"{where}.in_flight"))
        facts[name] = _facts(name, entry, where, now=now, wall=wall)
    return FleetSnapshot(servers=MappingProxyType(facts), in_flight=MappingProxyType(in_flight))


def _facts(name: str, entry: Mapping[str, Any], where: str, *, now: float, wall: float) -> ServerFacts:
    facts = ServerFacts(name=name)
    if entry.get("error"):
        return observe_down(facts, str(entry["error"]), now=now)
    version = json.dumps({"version": entry.get("version")}).encode()
    probe_ms = _number(entry.get("probe_ms", 1), f"{where}.probe_ms")
    facts = observe_version(facts, version, probe_ms=probe_ms, now=now)
    try:
        if "tags" in entry:
            facts = observe_tags(facts, _body(entry["tags"]), now=now)
        if "ps" in entry:
            facts = observe_ps(facts, _body(entry["ps"]), now=now, wall=wall)
        for model, reply in _object(entry.get("show", {}), f"{where}.show").items():
            facts = observe_show(facts, canonical_name(model), _body(reply))
    except UpstreamProtocolError as error:
        raise CommandFailed(f"{where}: {error.message}") from None
    return replace(facts, up=True)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        return _object(json.loads(path.read_text(encoding="utf-8-sig")), str(path))
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"{path} is not JSON: {error}") from None


def _body(value: Any) -> bytes:
    return json.dumps(value).encode()


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise CommandFailed(f"{where}: expected an object")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CommandFailed(f"{where}: expected a number")
    return value
