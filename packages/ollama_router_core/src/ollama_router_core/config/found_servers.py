"""Servers that discovery found, and the config with them.

What was found is a fact with an age; which servers the router then has is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import pydantic

from ollama_router_core.config.checks import folded_host
from ollama_router_core.config.destination_settings import Server
from ollama_router_core.config.discovery_settings import FoundServerSettings
from ollama_router_core.config.nodes import NodeReader
from ollama_router_core.config.problems import Problem, config_error, render_path
from ollama_router_core.config.sections import Section
from ollama_router_core.config.settings import Config
from ollama_router_core.config.value_types import DestinationName, safe_name
from ollama_router_core.config.yaml_document import compose

__all__ = ["FoundServer", "FoundServers", "found_server", "servers_of", "with_found"]


_MOST: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundServer:
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


def _problem(place: tuple[int | str, ...], message: str, reader: NodeReader) -> Problem:
    path = tuple(part for part in place[1:] if part != "[key]")
    lines = (reader.lines.get(path[:length]) for length in range(len(path), 0, -1))
    return Problem(
        line=next((line for line in lines if line is not None), None), path=render_path(path), message=message
    )


class FoundServers:
    """What every source found, and when it was last seen."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[tuple[str, int], tuple[FoundServer, float]]] = {}

    def report(self, source: str, found: Iterable[FoundServer], now: float, *, keep: float) -> None:
        """Take over the result of a look that succeeded; what has been missing for `keep` seconds goes."""
        seen = {_address(one.settings): (one, now) for one in found}
        for address, (one, at) in self._seen.get(source, {}).items():
            if address not in seen and now - at < keep:
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
        return tuple(sorted(found, key=lambda one: (one.source, one.name, _address(one.settings))))


def with_found(config: Config, found: Iterable[FoundServer]) -> tuple[Config, Mapping[str, str]]:
    """Add found servers to a config; also return the source of each that was added, by its name.

    A server at an address that is in the config, or was found before, is the same one. With `discovery.use: ask` an
    added one is drained from the start. No more than a thousand are added: whoever announces servers must not decide
    how many are probed.
    """
    servers, sources = dict(config.servers), dict[str, str]()
    taken = {_address(server) for server in servers.values()} | {(folded_host(config.proxy_host), config.proxy_port)}
    for one in found:
        address = _address(one.settings)
        if address in taken:
            continue
        if len(sources) == _MOST:
            break
        taken.add(address)
        name = _free_name(one.name, address, servers.keys() | config.external_hosts.keys())
        drained = one.settings.drain or config.discovery.use == "ask"
        servers[name] = one.settings.model_copy(update={"drain": drained})
        sources[name] = one.source
    return (config.model_copy(update={"servers": servers}) if sources else config), sources


def _address(server: Server) -> tuple[str, int]:
    return folded_host(server.host), server.port


def _free_name(name: str, address: tuple[str, int], taken: Iterable[str]) -> str:
    """The name itself, else with its address: the same in every router, whatever the order."""
    return name if name not in set(taken) else safe_name(f"{name}-{address[0]}-{address[1]}")
