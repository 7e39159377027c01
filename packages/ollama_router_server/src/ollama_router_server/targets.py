"""Config names to places: origin, path prefix and the credential that only this place may see.

Belongs here: reading provider keys from the environment once, keeping them out of every repr.
Does not belong here: choosing between places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ollama_router_core.config.settings import Config, ExternalHost
from ollama_router_server.upstream.interface import Headers, Origin

__all__ = ["Target", "build_targets", "missing_keys"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One server or external host. `credential` holds the fields that authenticate us there, never shown."""

    name: str
    origin: Origin
    external: bool = False
    credential: Headers = field(default=(), repr=False)

    def redact(self, data: bytes) -> bytes:
        """The same bytes without our key, should the place echo it."""
        for _, value in self.credential:
            secret = value.removeprefix(b"Bearer ")
            if len(secret) >= 4:
                data = data.replace(secret, b"[redacted]")
        return data


def build_targets(config: Config, environment: Mapping[str, str]) -> dict[str, Target]:
    """Every configured place by name; keys come from the variables that `api_key_env` names."""
    targets = {
        name: Target(name=name, origin=Origin(server.protocol, server.host, server.port))
        for name, server in config.servers.items()
    }
    for name, host in config.external_hosts.items():
        origin = Origin(host.protocol, host.host, host.port)
        key = environment.get(host.api_key_env or "", "")
        targets[name] = Target(name=name, origin=origin, external=True, credential=_credential(host, key))
    return targets


def missing_keys(config: Config, environment: Mapping[str, str]) -> list[str]:
    """Warnings for enabled external hosts whose key variable is not set."""
    return [
        f"external host {name}: the environment variable {host.api_key_env} is not set, requests go without a key"
        for name, host in config.external_hosts.items()
        if host.enabled and host.api_key_env and not environment.get(host.api_key_env)
    ]


def _credential(host: ExternalHost, key: str) -> Headers:
    if not key:
        return ()
    value = key.strip().encode("latin-1", "ignore")
    if host.host.lower().endswith("anthropic.com"):
        return ((b"x-api-key", value),)
    return ((b"authorization", b"Bearer " + value),)
