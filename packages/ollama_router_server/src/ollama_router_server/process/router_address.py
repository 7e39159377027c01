"""The address of a router, as a user types it."""

from __future__ import annotations

from urllib.parse import urlsplit

from msgspec import Struct

from ollama_router_core.errors import ConfigError
from ollama_router_server.upstream.interface import Origin

__all__ = ["RouterAddress", "read_address"]


class RouterAddress(Struct, frozen=True, kw_only=True):
    """The address of a router: its origin and the prefix of all its paths."""

    origin: Origin
    prefix: str = ""


def read_address(url: str) -> RouterAddress:
    """Parse a router's address from a URL; without a scheme, assume http and port 11434.

    Raises:
        ConfigError: not a valid URL, or one with a user, query or fragment. The message does not repeat the URL.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host, parts = None, None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigError("expected a router's address such as http://gpu-box:11434")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("the address may contain only scheme, host, port and path; the token is asked for")
    default = {"http": 80, "https": 443}[parts.scheme] if "://" in url else 11434
    return RouterAddress(origin=Origin(parts.scheme, host, port or default), prefix=parts.path.rstrip("/"))
