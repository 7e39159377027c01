"""Servers that discovery found, and the config with them.

What was found is a fact with an age; which servers the router then has is decided here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import pydantic
from msgspec import Struct

from ollama_router_core.config.checks import folded_host
from ollama_router_core.config.destination_settings import Server
from ollama_router_core.config.discovery_settings import FoundServerSettings
from ollama_router_core.config.nodes import NodeReader
from ollama_router_core.config.problems import Problem, config_error, render_path
from ollama_router_core.config.sections import Section
from ollama_router_core.config.settings import Config
from ollama_router_core.config.value_types import MOST_NAME_CHARACTERS, TARGET_WORDS, DestinationName, safe_name
from ollama_router_core.config.words import nearest
from ollama_router_core.config.yaml_document import compose

__all__ = ["FoundServer", "FoundServers", "found_server", "name_at", "servers_of", "unknown_assignments", "with_found"]


_MOST: Final = 1_000


class FoundServer(Struct, frozen=True, kw_only=True):
    """A server as it was found; `source` tells where, such as `dns:_ollama._tcp.example.org`."""

    name: str
    source: str
    settings: Server


def found_server(name: str, source: str, host: str, port: int, settings: FoundServerSettings) -> FoundServer | None:
    """Build a server from what a look told; None for a host or port that cannot be one."""
    try:
        server = Server(host=host, port=port, **settings.model_dump())
    except pydantic.ValidationError:
        return None
    return FoundServer(name=safe_name(name), source=source, settings=server)


def servers_of(text: str, source: str) -> tuple[FoundServer, ...]:
    """Read servers by name, each as below `servers` in a config, from YAML or JSON.

    Raises:
        ConfigError: it has problems; lines are those of the text.
    """
    root = compose(text)
    reader = NodeReader({})
    values = {"servers": (None if root is None else reader.read(root)) or {}}
    if reader.problems:
        raise config_error(reader.problems)
    try:
        servers = _Servers.model_validate(values).servers
    except pydantic.ValidationError as error:
        problems = [_problem(item["loc"], item["msg"], reader) for item in error.errors(include_url=False)]
        raise config_error(problems) from None
    return tuple(FoundServer(name=name, source=source, settings=server) for name, server in servers.items())


class _Servers(Section):
    servers: dict[DestinationName, Server]


def _problem(location: tuple[int | str, ...], message: str, reader: NodeReader) -> Problem:
    path = tuple(part for part in location[1:] if part != "[key]")
    return Problem(line=reader.line_at(path), path=render_path(path), message=message)


class FoundServers:
    """What every source found, and when it was last seen."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[tuple[str, int], tuple[FoundServer, float]]] = {}

    def report(self, source: str, found: Iterable[FoundServer], now: float, *, keep: float) -> None:
        """Take over the result of a look that succeeded; what has been missing for `keep` seconds goes.

        At once goes what is found under its name at another address: it has moved, unless several had that name before.
        """
        seen = {_address(one.settings): (one, now) for one in found}
        present = {one.name for one, _ in seen.values()}
        before = self._seen.get(source, {})
        claims = Counter(one.name for one, _ in before.values())
        for address, (one, at) in before.items():
            moved = one.name in present and claims[one.name] == 1
            if address not in seen and not moved and now - at < keep:
                seen[address] = (one, at)
        self._seen[source] = seen

    def retain(self, sources: Iterable[str]) -> None:
        """Forget sources that are no longer looked at."""
        kept = set(sources)
        self._seen = {source: seen for source, seen in self._seen.items() if source in kept}

    def counts(self) -> Mapping[str, int]:
        """How many servers each source has."""
        return {source: len(seen) for source, seen in self._seen.items()}

    def all(self) -> tuple[FoundServer, ...]:
        """All of them, by source and name."""
        found = (one for seen in self._seen.values() for one, _ in seen.values())
        return tuple(sorted(found, key=_order))


def with_found(config: Config, found: Iterable[FoundServer]) -> tuple[Config, Mapping[str, str]]:
    """Add found servers to a config; also return the source of each that was added, by its name.

    What they are called depends on nothing else than config and servers, so that all routers that see the same call
    them the same. A server at an address that is in the config, or was found already, is the same one. A name of the
    config, one that several found servers have, or a word such as `all` is none of theirs: they are called by their
    addresses, too. What is left without a name of its own is left out. With `discovery.use: ask` an added one is
    drained from the start. No more than a thousand are added: whoever announces servers must not decide how many are
    probed.
    """
    servers, sources = dict(config.servers), dict[str, str]()
    for name, one in _named(config, _new_ones(config, found)):
        if name in servers or name in config.external_hosts:
            continue
        drained = one.settings.drain or config.discovery.use == "ask"
        servers[name] = one.settings.model_copy(update={"drain": drained})
        sources[name] = one.source
    return (config.model_copy(update={"servers": servers}) if sources else config), sources


def unknown_assignments(config: Config) -> list[str]:
    """Tell of models that are assigned to a server which is neither in the config nor found, one text each."""
    known = [*config.servers, *config.external_hosts]
    return [
        f"models.explicit_assignments.{model}: there is no server {target!r} yet; the assignment applies once"
        " discovery finds it" + (f" (or is {near!r} meant?)" if (near := nearest(target, known)) else "")
        for model, target in config.models.explicit_assignments.items()
        if target not in known
    ]


def _address(server: Server) -> tuple[str, int]:
    return folded_host(server.host), server.port


def _new_ones(config: Config, found: Iterable[FoundServer]) -> list[FoundServer]:
    """Those at addresses that are neither the config's nor another's before them; by source, name and address."""
    taken = {_address(server) for server in config.servers.values()}
    taken.add((folded_host(config.proxy_host), config.proxy_port))
    added: list[FoundServer] = []
    for one in sorted(found, key=_order):
        if _address(one.settings) not in taken and len(added) < _MOST:
            taken.add(_address(one.settings))
            added.append(one)
    return added


def _order(one: FoundServer) -> tuple[str, str, str, int]:
    return (one.source, one.name, *_address(one.settings))


def _named(config: Config, added: list[FoundServer]) -> list[tuple[str, FoundServer]]:
    """Pair each with its name; add its address if others have that name too, or are called that with their address."""
    claims = Counter(one.name for one in added)
    claims.update({*config.servers, *config.external_hosts, *TARGET_WORDS})
    longer = {name_at(one.name, *_address(one.settings)) for one in added if claims[one.name] > 1}
    return [
        (name_at(one.name, *_address(one.settings)) if claims[one.name] > 1 or one.name in longer else one.name, one)
        for one in added
    ]


def name_at(name: str, host: str, port: int) -> str:
    """Return what a server is called whose name alone is not enough; of a long one the address is what stays."""
    address = safe_name(f"{host}-{port}")
    return safe_name(f"{name[: MOST_NAME_CHARACTERS - len(address) - 1]}-{address}")
