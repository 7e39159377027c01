"""Servers found by discovery, and their addition to a config."""

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
    """A found server; `source` is where, such as `dns:_ollama._tcp.example.org`."""

    name: str
    source: str
    settings: Server


def found_server(name: str, source: str, host: str, port: int, settings: FoundServerSettings) -> FoundServer | None:
    """Build a server from a discovery result; None if the host or port is invalid."""
    try:
        server = Server(host=host, port=port, **settings.model_dump())
    except pydantic.ValidationError:
        return None
    return FoundServer(name=safe_name(name), source=source, settings=server)


def servers_of(text: str, source: str) -> tuple[FoundServer, ...]:
    """Parse servers by name, in the format of `servers` in a config, from YAML or JSON.

    Raises:
        ConfigError: the text has problems; their lines are those of the text.
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
    """The servers found by each source, with the time when each was last seen."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[tuple[str, int], tuple[FoundServer, float]]] = {}

    def report(self, source: str, found: Iterable[FoundServer], now: float, *, keep: float) -> None:
        """Store a source's result; a server missing for `keep` seconds is removed.

        A server whose name is now at another address has moved and is removed at once, unless several had that name.
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
        """Remove all other sources."""
        kept = set(sources)
        self._seen = {source: seen for source, seen in self._seen.items() if source in kept}

    def counts(self) -> Mapping[str, int]:
        """Return the number of servers by source."""
        return {source: len(seen) for source, seen in self._seen.items()}

    def all(self) -> tuple[FoundServer, ...]:
        """Return all servers, ordered by source and name."""
        found = (one for seen in self._seen.values() for one, _ in seen.values())
        return tuple(sorted(found, key=_order))


def with_found(config: Config, found: Iterable[FoundServer]) -> tuple[Config, Mapping[str, str]]:
    """Add found servers to a config; also return the source of each added server, by name.

    Names depend only on the config and the found servers, so that all routers with the same view use the same names.
    Servers with the same address are one server, and the config's takes precedence. If a name is in the config,
    reserved (such as `all`) or found several times, the server's address is appended. Servers without a unique name are
    left out. With `discovery.use: ask`, added servers start drained. At most a thousand are added, to bound the probes.
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
    """Return a warning for each model assigned to a server that is neither configured nor found."""
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
    """Return the servers at new addresses, in order of source, name and address."""
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
    """Return pairs of name and server; append the address if the name, or another's name with address, conflicts."""
    claims = Counter(one.name for one in added)
    claims.update({*config.servers, *config.external_hosts, *TARGET_WORDS})
    longer = {name_at(one.name, *_address(one.settings)) for one in added if claims[one.name] > 1}
    return [
        (name_at(one.name, *_address(one.settings)) if claims[one.name] > 1 or one.name in longer else one.name, one)
        for one in added
    ]


def name_at(name: str, host: str, port: int) -> str:
    """Return a server's name with its address appended; a long name is cut, the address is not."""
    address = safe_name(f"{host}-{port}")
    return safe_name(f"{name[: MOST_NAME_CHARACTERS - len(address) - 1]}-{address}")
