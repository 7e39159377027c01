"""Destinations of the config by name: address, paths, API, and the host's own credential."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from msgspec import Struct

from ollama_router_core.api.endpoints import Family
from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.config.settings import Config, ExternalHost, HostedModel, Server
from ollama_router_core.outbound.echoes import echoed
from ollama_router_core.outbound.host_profiles import Profile, ProfileSource, profile_of
from ollama_router_core.records.costs import Price
from ollama_router_core.translate import ExternalModel, HostTraits, codec_of, family_of_domain

__all__ = ["Destination", "Fields", "Patience", "build_destinations", "missing_keys"]

Fields = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, with lower-case names."""

_KEY = re.compile(r"[!-~]{1,4096}")
_SHORTEST_SECRET = 4
_NOTHING_KNOWN = Profile("none", ())


class Patience(Struct, frozen=True, kw_only=True):
    """Timeouts in seconds: connecting, first byte, silence within a response."""

    connect: float
    first_byte: float
    idle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One server or external host.

    `family` is the API of an external host; an Ollama server speaks all. `cancels_on_disconnect`: the server cancels a
    run on disconnect. `credential` has the fields that authenticate the router, configured headers included; never
    shown. `key_problem` says why a configured key is missing. `models` are the details of an external host's models by
    canonical name. `base_url` is scheme, host and port, without a path; the port is always included. `secrets` are the
    values of `credential` to redact, without `Bearer`. `ca_file` is the CA of its certificate, None for the system's.
    `profile` is the profile of an external host, `traits` the part for all models and routes. `learns`: members that
    the host refuses may be omitted. A destination that is not `traced` gets no trace context.
    """

    name: str
    scheme: str
    host: str
    port: int
    patience: Patience
    external: bool = False
    cancels_on_disconnect: bool = False
    family: Family = Family.OLLAMA
    prefix: str = ""
    query: str = ""
    credential: Fields = field(default=(), repr=False)
    key_problem: str | None = None
    ca_file: str | None = None
    models: Mapping[CanonicalName, HostedModel] = field(default_factory=dict)
    profile: Profile = field(default=_NOTHING_KNOWN, repr=False)
    learns: bool = False
    traced: bool = True
    traits: HostTraits = field(init=False)
    base_url: str = field(init=False, repr=False)
    secrets: tuple[bytes, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        object.__setattr__(self, "traits", self.profile.facts(None).traits)
        object.__setattr__(self, "base_url", f"{self.scheme}://{host}:{self.port}")
        values = (value.removeprefix(b"Bearer ") for _, value in self.credential)
        object.__setattr__(self, "secrets", tuple(value for value in values if len(value) >= _SHORTEST_SECRET))

    def redact(self, data: bytes) -> bytes:
        """Redact the router's secrets in bytes from the destination."""
        for secret in self.secrets:
            data = echoed(secret).pattern.sub(b"[redacted]", data)
        return data

    def model_there(self, asked: str) -> str:
        """Return the destination's name for a model that clients call `asked`."""
        details = self.models.get(canonical_name(asked)) if self.models else None
        return asked if details is None or details.name is None else details.name

    def price_of(self, asked: str) -> Price | None:
        """Return the price of a model that clients call `asked`; None if the config has no price."""
        details = self.models.get(canonical_name(asked)) if self.models else None
        return None if details is None else details.price

    def path_of(self, path: str, model: str) -> str:
        """Return path and query for a route of the endpoint table; `model` is the destination's name for it."""
        if not self.external:
            return self.prefix + path
        base = codec_of(self.family).base_path
        prefix = self.prefix.replace("{model}", quote(model, safe="")) if self.prefix else base
        there = prefix + path.removeprefix(base)
        return f"{there}?{self.query}" if self.query else there

    def own_path(self, path: str) -> str:
        """Return path and query below a server's prefix; those of an external host are unchanged."""
        return path if self.external else self.prefix + path

    def listing(self, asked: str, *, since_ns: int = 0) -> ExternalModel:
        """Return the listing of one of the destination's models for clients."""
        details = self.models.get(canonical_name(asked), HostedModel())
        return ExternalModel(
            name=asked,
            remote_name=details.name or asked,
            host=self.base_url,
            capabilities=details.capabilities,
            context_length=details.context_length,
            max_output_tokens=details.max_output_tokens,
            since_ns=since_ns,
        )


def build_destinations(
    config: Config, environment: Mapping[str, str], read_text: Callable[[str], str], profiles: ProfileSource
) -> dict[str, Destination]:
    """Build every configured destination, by name.

    `environment` has the variables of `api_key_env`; `read_text` returns the text of an `api_key_file` or raises
    OSError or ValueError. A missing key is a `key_problem`, not an error, so that other destinations work.
    `profiles` are the shipped ones.

    Raises:
        ConfigError: a shipped profile is invalid.
    """
    found = {
        name: _server(name, server, config, *_key(f"server {name}", server, environment, read_text))
        for name, server in config.servers.items()
    }
    for name, host in config.external_hosts.items():
        key, problem = _key(f"external host {name}", host, environment, read_text)
        found[name] = _external(name, host, config, profiles, key, problem)
    return found


def missing_keys(config: Config, destinations: Mapping[str, Destination]) -> list[str]:
    """Return warnings for enabled destinations whose key cannot be read; requests are sent there without one."""
    configured: dict[str, Server | ExternalHost] = {**config.servers, **config.external_hosts}
    problems = ((settings.enabled, destinations[name].key_problem) for name, settings in configured.items())
    return [problem for enabled, problem in problems if enabled and problem is not None]


def _server(name: str, server: Server, config: Config, key: str, problem: str | None) -> Destination:
    bearer = ((b"authorization", b"Bearer " + key.encode("ascii")),) if key else ()
    patience = Patience(
        connect=config.connect_timeout,
        first_byte=config.request_timeout,
        idle=config.idle_timeout or config.request_timeout,
    )
    return Destination(
        name=name,
        scheme=server.protocol,
        host=server.host,
        port=server.port,
        patience=patience,
        cancels_on_disconnect=server.cancels_on_disconnect,
        prefix=server.path_prefix or "",
        credential=(*bearer, *_own_fields(server)),
        key_problem=problem,
        ca_file=server.ca_file,
    )


def _external(
    name: str, host: ExternalHost, config: Config, profiles: ProfileSource, key: str, problem: str | None
) -> Destination:
    family = _family(host)
    return Destination(
        name=name,
        scheme=host.protocol,
        host=host.host,
        port=host.port,
        patience=Patience(
            connect=host.connect_timeout or config.connect_timeout,
            first_byte=host.request_timeout or config.request_timeout,
            idle=host.idle_timeout or config.idle_timeout or host.request_timeout or config.request_timeout,
        ),
        external=True,
        family=family,
        prefix=host.path_prefix or "",
        query=host.query or "",
        credential=(*_key_field(host, family, key), *_own_fields(host)),
        key_problem=problem,
        models={canonical_name(model): details for model, details in host.models.items()},
        profile=profile_of(name, host, profiles),
        learns=host.learn_unsupported,
        traced=config.traces.to_hosts,
    )


def _family(host: ExternalHost) -> Family:
    if host.api != "auto":
        return Family(host.api)
    return family_of_domain(host.host) or Family.OPENAI


def _key(
    label: str, host: Server | ExternalHost, environment: Mapping[str, str], read_text: Callable[[str], str]
) -> tuple[str, str | None]:
    if host.api_key_env is not None:
        key, source = environment.get(host.api_key_env, ""), f"the environment variable {host.api_key_env}"
    elif host.api_key_file is not None:
        source = "its api_key_file"
        try:
            key = read_text(host.api_key_file)
        except (OSError, ValueError) as error:
            return "", f"{label}: {source} cannot be read ({type(error).__name__}); requests are sent without it"
    else:
        return "", None
    key = key.strip()
    if not key:
        return "", f"{label}: {source} is not set or empty; requests are sent without a key"
    if not _KEY.fullmatch(key):
        return "", f"{label}: the content of {source} cannot be a key; requests are sent without one"
    return key, None


def _key_field(host: ExternalHost, family: Family, key: str) -> Fields:
    if not key:
        return ()
    value = key.encode("ascii")
    if host.api_key_header is not None and host.api_key_header.lower() != "authorization":
        return ((host.api_key_header.lower().encode("ascii"), value),)
    if host.api_key_header is None:
        return (codec_of(family).credential(value),)
    return ((b"authorization", b"Bearer " + value),)


def _own_fields(host: Server | ExternalHost) -> Iterable[tuple[bytes, bytes]]:
    return ((name.lower().encode("ascii"), value.encode("ascii")) for name, value in host.headers.items())
