"""The base of both transports: constructors and the snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ollama_router_core.client.sources import config_from_file, config_from_urls
from ollama_router_core.client.system import Clock
from ollama_router_core.client.system import environment as process_environment
from ollama_router_core.client.transport_state import State
from ollama_router_core.config.settings import Config
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
    """A transport without its I/O."""

    def __init__(
        self,
        config: Config,
        *,
        sink: LogSink | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        variables = process_environment() if environment is None else environment
        self._state = State(config, environment=variables, sink=sink, clock=clock)

    @classmethod
    def from_file(cls, path: str | Path, section: str | None = None, **options: Any) -> Self:
        """Create a transport from a config file (`orouter.yml`); `options` are those of the class.

        Raises:
            ConfigError: the file is invalid; the error lists all problems.
        """
        variables = options.get("environment")
        known = process_environment() if variables is None else variables
        return cls(config_from_file(str(path), section, known), **options)

    @classmethod
    def from_urls(cls, urls: Iterable[str], **options: Any) -> Self:
        """Create a transport for these servers, with default settings.

        Raises:
            ConfigError: an address is invalid, or there is none.
        """
        return cls(config_from_urls(urls), **options)

    @property
    def snapshot(self) -> FleetSnapshot:
        """The current known state of the fleet; sends nothing."""
        return self._state.fleet.snapshot
