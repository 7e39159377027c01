"""The config without a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import ValidationError

from ollama_router_core.config.problems import Problem, config_error
from ollama_router_core.config.settings import Config, Server
from ollama_router_core.errors import ConfigError

__all__ = ["OLLAMA_PORT", "ROUTER_PORT", "default_config", "parse_ollama_host"]

OLLAMA_PORT = 11434
"""The default port of Ollama."""

ROUTER_PORT = 11433
"""The router's port if an Ollama may use 11434 on this machine."""

_CONNECTABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (what a server binds, turned into what to call)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def default_config(env: Mapping[str, str]) -> Config:
    """Return the built-in defaults: one server, `local`, at `OLLAMA_HOST` or 127.0.0.1:11434.

    The router listens on 11433 instead of the setting's default 11434, which would conflict with the local Ollama or
    make the router call itself. If `OLLAMA_HOST` is port 11433 on this machine, the router uses 11434.

    Raises:
        ConfigError: `OLLAMA_HOST` is not a valid server address.
    """
    server = parse_ollama_host(env.get("OLLAMA_HOST", ""))
    taken = server.host in _LOOPBACK and server.port == ROUTER_PORT
    return Config(servers={"local": server}, proxy_port=OLLAMA_PORT if taken else ROUTER_PORT)


def parse_ollama_host(text: str) -> Server:
    """Parse a server's address as Ollama parses `OLLAMA_HOST` (envconfig.Host).

    The default port is 11434 without a scheme, 80 with `http://` and 443 with `https://`; `ollama.com` alone implies
    https. An invalid port is ignored. A wildcard address (0.0.0.0, ::) means this machine.

    Raises:
        ConfigError: the text has another scheme, a path or a user, or no valid host.
    """
    scheme, found, rest = text.strip(" \t\r\n\"'").partition("://")
    if not found:
        scheme, rest = "http", scheme
        if rest == "ollama.com":
            return Server(host=rest, port=443, protocol="https")
    default_port = {"http": 80, "https": 443}.get(scheme.lower()) if found else None
    address, _, path = rest.partition("/")
    if scheme.lower() not in ("http", "https") or path.strip("/") or "@" in address:
        raise _unusable("expected [http://|https://]HOST[:PORT] without user and path")
    host, port = _split_port(address, default_port or OLLAMA_PORT)
    protocol: Literal["http", "https"] = "https" if scheme.lower() == "https" else "http"
    try:
        return Server(host=_CONNECTABLE.get(host, host) or "127.0.0.1", port=port, protocol=protocol)
    except ValidationError:
        raise _unusable("expected a host name or address, and an optional port") from None


def _split_port(address: str, default: int) -> tuple[str, int]:
    if address.count(":") > 1 and not address.startswith("["):
        return address, default
    head, colon, tail = address.rpartition(":")
    if not colon or "]" in tail:
        return address.strip("[]"), default
    valid = tail.isascii() and tail.isdigit() and 0 < int(tail[:6]) <= 65535
    return head.strip("[]"), int(tail) if valid else default


def _unusable(expected: str) -> ConfigError:
    # The message omits the value, as some clients put a token into the path.
    return config_error([Problem(line=None, path="OLLAMA_HOST", message=f"{expected}; or write a config file")])
