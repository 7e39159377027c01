"""The core's destinations as targets of the upstream engine."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config.settings import Config
from ollama_router_core.outbound import destinations
from ollama_router_core.outbound.destinations import Destination, build_destinations
from ollama_router_server.system import read_text
from ollama_router_server.upstream.interface import Headers, Origin, Timeouts

__all__ = ["Target", "build_targets", "missing_keys"]


class Target(Struct, frozen=True, kw_only=True):
    """One server or external host; `name` and `external` are those of its destination."""

    destination: Destination
    origin: Origin
    timeouts: Timeouts
    name: str
    external: bool

    @property
    def credential(self) -> Headers:
        """The header fields with our credential for this host; never displayed."""
        return self.destination.credential

    def redact(self, data: bytes) -> bytes:
        """Return the bytes with our key redacted, in case the server echoes it."""
        return self.destination.redact(data)


def build_targets(config: Config, environment: Mapping[str, str]) -> dict[str, Target]:
    """Return every configured destination by name; keys are read from the environment or from files."""
    found = build_destinations(config, environment, read_text, shipped_profiles())
    return {name: _target(destination) for name, destination in found.items()}


def missing_keys(config: Config, environment: Mapping[str, str]) -> list[str]:
    """Return warnings for enabled external hosts without a readable key."""
    return destinations.missing_keys(config, build_destinations(config, environment, read_text, shipped_profiles()))


def _target(destination: Destination) -> Target:
    patience = destination.patience
    return Target(
        destination=destination,
        name=destination.name,
        external=destination.external,
        origin=Origin(destination.scheme, destination.host, destination.port, destination.name, destination.ca_file),
        timeouts=Timeouts(connect=patience.connect, first_byte=patience.first_byte, idle=patience.idle),
    )
