"""Where settings come from: the only module that knows the search order.

--config, $OROUTER_CONFIG, ./orouter.yml, <user's config directory>/orouter.yml, built-in defaults
--environment, $OROUTER_ENV, production
$OROUTER_DATABASE_URL, database_url of the config, a SQLite file in the user's data directory
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from ollama_router_core.config import Config, default_config, load_config
from ollama_router_core.errors import ConfigError
from ollama_router_core.routing.policy import leaks
from ollama_router_server.storage.database import default_database_url

__all__ = ["FILE_NAME", "Settings", "find_config_file", "read_settings"]

FILE_NAME = "orouter.yml"
"""Name of a config file unless another is given."""

_DEFAULT_ENVIRONMENT = "production"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A loaded config and where it came from; `path` is None for the built-in defaults."""

    config: Config
    path: Path | None
    environment: str
    variables: Mapping[str, str] = field(repr=False)

    @property
    def source(self) -> str:
        """Origin of the settings, for people."""
        return "built-in defaults" if self.path is None else f"{self.path} ({self.environment})"

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL in effect; it may contain a password."""
        chosen = self.variables.get("OROUTER_DATABASE_URL") or self.config.database_url
        return chosen or default_database_url()

    @property
    def router_url(self) -> str:
        """URL at which a client on this machine reaches the router."""
        host = self.config.proxy_host
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
        bracketed = f"[{reachable}]" if ":" in reachable else reachable
        scheme = "http" if self.config.tls.certificate is None else "https"
        return f"{scheme}://{bracketed}:{self.config.proxy_port}"


def read_settings(
    config: Path | None = None, environment: str | None = None, variables: Mapping[str, str] | None = None
) -> Settings:
    """Find and load the config; `variables` is the process's environment unless given.

    Raises:
        ConfigError: the file cannot be read, or has problems; the error lists them all.
    """
    known = dict(os.environ) if variables is None else variables
    section = environment or known.get("OROUTER_ENV") or _DEFAULT_ENVIRONMENT
    path = find_config_file(config, known)
    loaded = default_config(known) if path is None else _load(path, section, known)
    if found := leaks(loaded):
        raise ConfigError(f"{path}: {'; '.join(found)}")
    return Settings(config=loaded, path=path, environment=section, variables=known)


def find_config_file(option: Path | None, variables: Mapping[str, str]) -> Path | None:
    """Return the config file in effect, or None for the built-in defaults.

    Raises:
        ConfigError: a file was named and does not exist.
    """
    named = option or (Path(variables["OROUTER_CONFIG"]) if variables.get("OROUTER_CONFIG") else None)
    if named is not None:
        if not named.exists():
            raise ConfigError(f"there is no config file {named} (--config or OROUTER_CONFIG); orouter init writes one")
        return named
    return next((path for path in (Path(FILE_NAME), _user_file()) if path.exists()), None)


def _user_file() -> Path:

    return Path(platformdirs.user_config_dir("ollama-router", appauthor=False)) / FILE_NAME


def _load(path: Path, section: str, variables: Mapping[str, str]) -> Config:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: byte {error.start} is not UTF-8") from error
    try:
        return load_config(text, environment=section, env=variables)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", problems=error.problems) from None
