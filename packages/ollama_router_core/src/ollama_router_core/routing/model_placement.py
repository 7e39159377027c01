"""The servers of model operations: the owners of a model, and the destinations of a new one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal, assert_never

from msgspec import Struct

from ollama_router_core.api.endpoints import parse_version
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import InvalidTarget, ModelNotFound, NoServerFits
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import PARTLY, Candidate, kind_of, make_candidate

__all__ = [
    "Everywhere",
    "Named",
    "OperationKind",
    "Target",
    "Unsaid",
    "WhereItFits",
    "differing_digests",
    "hosted_ranking",
    "loaded_on",
    "owners",
    "read_target",
    "servers_by_priority",
    "servers_for_operation",
    "servers_for_target",
]

_CLOUD_WITHOUT_STUB = (0, 17, 6)
"""The first Ollama version that forwards `:cloud` names without a pulled stub."""


class Unsaid(Struct, frozen=True):
    """The client named no target."""


class Named(Struct, frozen=True):
    """These servers, in this order."""

    servers: tuple[str, ...]


class Everywhere(Struct, frozen=True):
    """Every enabled server."""


class WhereItFits(Struct, frozen=True):
    """The server whose memory fits the model best."""


Target = Unsaid | Named | Everywhere | WhereItFits

OperationKind = Literal["pull", "load", "unload", "copy", "delete"]


def read_target(value: str | None, config: Config) -> Target:
    """Parse `X-Router-Target`: `all`, `where-it-fits`, or comma-separated server names.

    Raises:
        InvalidTarget: a name is unknown or disabled.
    """
    text = (value or "").strip()
    match text:
        case "":
            return Unsaid()
        case "all":
            return Everywhere()
        case "where-it-fits":
            return WhereItFits()
    enabled = [name for name, server in config.servers.items() if server.enabled]
    names = tuple(dict.fromkeys(_named(text, frozenset(enabled))))
    unknown = [name for name in names if name not in enabled]
    if unknown:
        known = ", ".join(enabled) or "none"
        raise InvalidTarget(
            f"X-Router-Target names {unknown[0][:100]!r}; enabled servers: {known}; or all, where-it-fits"
        )
    return Named(names)


def _named(text: str, known: Collection[str]) -> Iterator[str]:
    """Yield the names of a comma-separated list; prefer the longest known name, as names may contain commas."""
    parts, at = text.split(","), 0
    most = 1 + max((name.count(",") for name in known), default=0)
    while at < len(parts):
        longest_first = (",".join(parts[at : at + count]).strip() for count in range(most, 1, -1))
        name = next((name for name in longest_first if name in known), parts[at].strip())
        yield name
        at += 1 + name.count(",")


def owners(snapshot: FleetSnapshot, model: CanonicalName | None) -> tuple[str, ...]:
    """Return the servers that have a model on disk, including those that are down."""
    return tuple(sorted(name for name, facts in snapshot.servers.items() if model in (facts.installed or ())))


def loaded_on(snapshot: FleetSnapshot, model: CanonicalName | None) -> tuple[str, ...]:
    """Return the servers that have a model in memory or are loading it."""
    servers = snapshot.servers.items()
    return tuple(sorted(name for name, facts in servers if model in facts.loaded or model in facts.loading))


def servers_by_priority(snapshot: FleetSnapshot, config: Config) -> tuple[str, ...]:
    """Return the servers that are up, by priority and name: an order that depends on no load."""
    up = [name for name, facts in snapshot.servers.items() if facts.up and name in config.servers]
    return tuple(sorted(up, key=lambda name: (config.servers[name].priority, name)))


def where_it_fits(model: RouteRequest, snapshot: FleetSnapshot, config: Config) -> tuple[str, ...]:
    """Return the servers that can hold a model: entirely in GPU memory first, then by priority, then the smallest.

    Raises:
        NoServerFits: no server can; the text has the sizes.
    """
    kind = kind_of(model)
    ranked = [make_candidate(name, kind, snapshot, config) for name in servers_by_priority(snapshot, config)]
    fitting = [one for one in ranked if one.limit is None or one.size <= one.limit]
    if not fitting:
        texts = "; ".join(f"{one.name} needs {_gib(one.size)}, limit {_gib(one.limit)}" for one in ranked)
        raise NoServerFits(f"{model.model_text} fits on no server that is up: {texts or 'all are down'}")
    return tuple(one.name for one in sorted(fitting, key=_tightness))


def servers_for_target(target: Target, model: RouteRequest, snapshot: FleetSnapshot, config: Config) -> tuple[str, ...]:
    """Return the servers for a new model. `Unsaid`: those that have one of that name, else where it fits.

    Raises:
        NoServerFits: no server is up, or none is large enough.
    """
    match target:
        case Named():
            return target.servers
        case Everywhere():
            return tuple(name for name, server in config.servers.items() if server.enabled)
        case WhereItFits():
            return where_it_fits(model, snapshot, config)[:1]
        case Unsaid():
            return owners(snapshot, model.model) or where_it_fits(model, snapshot, config)[:1]
        case _:
            assert_never(target)


def servers_for_operation(
    kind: OperationKind, target: Target, model: RouteRequest, snapshot: FleetSnapshot, config: Config
) -> tuple[str, ...]:
    """Return the servers of an operation on a model. `Unsaid`: all that have it, for `load` the best one that is up.

    `Everywhere` means every enabled server for `pull`, and every server that has the model otherwise.

    Raises:
        ModelNotFound: no server has it.
        NoServerFits: no server is up, or none is large enough.
    """
    if kind == "pull":
        return servers_for_target(target, model, snapshot, config)
    if isinstance(target, Named):
        return target.servers
    there = loaded_on(snapshot, model.model) if kind == "unload" else owners(snapshot, model.model)
    if not there:
        raise ModelNotFound(f"no server has {model.model_text}{' in memory' if kind == 'unload' else ''}")
    if kind == "load" and not isinstance(target, Everywhere):
        fitting = [name for name in where_it_fits(model, snapshot, config) if name in there]
        return tuple(fitting[:1]) or there[:1]
    return there


def hosted_ranking(model: CanonicalName | None, snapshot: FleetSnapshot, config: Config) -> tuple[str, ...]:
    """Return the servers that forward a model to ollama.com: those with its stub, then those that need none."""
    up = servers_by_priority(snapshot, config)
    stub = [name for name in up if model in (snapshot.servers[name].installed or ())]
    others = [name for name in up if name not in stub]
    new = [name for name in others if parse_version(snapshot.servers[name].version) >= _CLOUD_WITHOUT_STUB]
    return (*stub, *new)


def differing_digests(snapshot: FleetSnapshot) -> Mapping[CanonicalName, Mapping[str, tuple[str, ...]]]:
    """Return the names that have several digests in the fleet: name to digest to servers."""
    found: dict[CanonicalName, dict[str, tuple[str, ...]]] = {}
    for server in sorted(snapshot.servers):
        for name, model in (snapshot.servers[server].installed or {}).items():
            digests = found.setdefault(name, {})
            digests[model.digest] = (*digests.get(model.digest, ()), server)
    return {name: digests for name, digests in found.items() if len(digests) > 1}


def _tightness(one: Candidate) -> tuple[bool, float, float, str]:
    return one.health_tier == PARTLY, one.server.priority, float("inf") if one.limit is None else one.limit, one.name


def _gib(size: int | None) -> str:
    return "none" if size is None else f"{size / 2**30:.1f} GiB"
