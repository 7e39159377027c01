"""A transport's config from a file or from addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ollama_router_core.client.system import read_text
from ollama_router_core.config.defaults import parse_ollama_host
from ollama_router_core.config.loading import load_config
from ollama_router_core.config.settings import Config, safe_name
from ollama_router_core.errors import ConfigError

__all__ = ["config_from_file", "config_from_urls"]


def config_from_file(path: str, section: str | None, environment: Mapping[str, str]) -> Config:
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


def config_from_urls(urls: Iterable[str]) -> Config:
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
