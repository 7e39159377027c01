"""The base of both transports: constructors and the snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ollama_router_core.client.system import environment as process_environment
from ollama_router_core.client.system import read_text
from ollama_router_core.client.transport_state import State
from ollama_router_core.config.defaults import parse_ollama_host
from ollama_router_core.config.loading import load_config
from ollama_router_core.config.settings import Config, safe_name
from ollama_router_core.errors import ConfigError
from ollama_router_core.exchange.environment import Clock
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.records.sinks import LogSink

if TYPE_CHECKING:
    _Base: Any  # so that either library's clients accept it as a transport
else:
    _Base = object

__all__ = ["FIRST_FACTS_SECONDS", "LONGEST_PAUSE", "BaseTransport"]

FIRST_FACTS_SECONDS = 3.0
"""Maximum seconds that a request waits for servers that were never queried."""
LONGEST_PAUSE = 1.0
"""Maximum seconds that a queued request sleeps before it queries due servers."""


class BaseTransport(_Base):  # type: ignore[misc]
    """A transport without its I/O, which its driver performs.

    Args:
        config: servers, external hosts, assignments, strategy.
        inner: the transport that sends requests; None uses HTTP transports of the request's library.
        sink: receives one record per request.
        environment: the variables for `api_key_env`; None uses the process's.
        clock: the clock; None uses the system's.

    Raises:
        ConfigError: a model that must stay local is assigned to an external host.
    """

    _driver_class: Any

    def __init__(
        self,
        config: Config,
        *,
        inner: Any = None,
        sink: LogSink | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        variables = process_environment() if environment is None else environment
        self._state = State(config, environment=variables, sink=sink, clock=clock)
        self._driver = self._driver_class(self._state, inner)

    @classmethod
    def from_file(cls, path: str | Path, section: str | None = None, **options: Any) -> Self:
        """Create a transport from a config file (`orouter.yml`); `options` are those of the class.

        Raises:
            ConfigError: the file is invalid; the error lists all problems.
        """
        variables = options.get("environment")
        known = process_environment() if variables is None else variables
        return cls(_config_from_file(str(path), section, known), **options)

    @classmethod
    def from_urls(cls, urls: Iterable[str], **options: Any) -> Self:
        """Create a transport for these servers, with default settings.

        Raises:
            ConfigError: an address is invalid, or there is none.
        """
        return cls(_config_from_urls(urls), **options)

    @property
    def snapshot(self) -> FleetSnapshot:
        """The current known state of the fleet; sends nothing."""
        return self._state.fleet.snapshot


def _config_from_file(path: str, section: str | None, environment: Mapping[str, str]) -> Config:
    """Load one environment's settings from a file; `section` defaults to `OROUTER_ENV`, then to `production`.

    Raises:
        ConfigError: the file cannot be read or is invalid.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}") from None
    chosen = section or environment.get("OROUTER_ENV") or "production"
    return load_config(text, environment=chosen, env=environment)


def _config_from_urls(urls: Iterable[str]) -> Config:
    """Build a config with one server per address, in the format of `OLLAMA_HOST`, named after its host.

    Raises:
        ConfigError: an address is invalid, or there is none.
    """
    found = [parse_ollama_host(url) for url in urls]
    hosts = Counter(server.host for server in found)
    servers = {safe_name(one.host if hosts[one.host] == 1 else f"{one.host}-{one.port}"): one for one in found}
    if not servers:
        raise ConfigError("give the address of at least one server")
    return Config(servers=servers)
