"""Sources of settings; no other module knows the search order.

--config, $OROUTER_CONFIG, ./orouter.yml, <user's config directory>/orouter.yml, built-in defaults
--environment, $OROUTER_ENV, production
$OROUTER_DATABASE_URL, database_url of the config, a SQLite file in the user's data directory
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from ollama_router_core.config import Config, default_config, load_config, read_setting
from ollama_router_core.errors import ConfigError
from ollama_router_core.routing.policy import leaks
from ollama_router_server.admin.doctor.finding import Installation

__all__ = [
    "DEFAULT_ENVIRONMENT",
    "FILE_NAME",
    "Settings",
    "chosen_environment",
    "find_config_file",
    "listening_settings",
    "load_text",
    "read_settings",
    "read_text",
]

FILE_NAME = "orouter.yml"
"""Default name of a config file."""

DEFAULT_ENVIRONMENT = "production"
"""Default section of a config file."""

_LISTENING = ("proxy_host", "proxy_port", "tls", "trusted_proxies")
_A_SERVER = {"servers": {"unknown": {"host": "unknown"}}}  # no config is valid without a server


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A loaded config, its text and where it came from; `path` and `text` are None for the built-in defaults."""

    config: Config
    path: Path | None
    environment: str
    variables: Mapping[str, str] = field(repr=False)
    text: str | None = field(default=None, repr=False)

    @property
    def source(self) -> str:
        """Origin of the settings, for people."""
        return "built-in defaults" if self.path is None else f"{self.path} ({self.environment})"

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL in effect; it may contain a password."""
        from ollama_router_server.storage.database import database_url_of  # noqa: PLC0415 - most ask no database

        return database_url_of(self.config, self.variables)

    @property
    def installation(self) -> Installation:
        """The files and settings to check for problems."""
        return Installation(
            config=self.config,
            path=self.path,
            source=self.source,
            database_url=self.database_url,
            variables=self.variables,
        )

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
    """Find and load the config; `variables` defaults to the process's environment.

    Raises:
        ConfigError: the file cannot be read or is invalid; the error lists all problems.
    """
    known = dict(os.environ) if variables is None else variables
    section = chosen_environment(environment, known)
    path = find_config_file(config, known)
    text = None if path is None else read_text(path)
    loaded = default_config(known) if path is None or text is None else load_text(path, text, section, known)
    return Settings(config=loaded, path=path, environment=section, variables=known, text=text)


def listening_settings(config: Path | None, environment: str | None) -> Settings:
    """Read only the router's address from a file that is invalid elsewhere.

    Raises:
        ConfigError: the file does not exist or cannot be read.
    """
    known = dict(os.environ)
    section, path = chosen_environment(environment, known), find_config_file(config, known)
    text = "" if path is None else read_text(path)
    told = {name: read_setting(text, name, environment=section, env=known) for name in _LISTENING}
    given = {name: value for name, value in told.items() if value is not None}
    try:
        listening = load_config(json.dumps({**_A_SERVER, **given}))
    except ConfigError:
        listening = default_config(known)
    return Settings(config=listening, path=path, environment=section, variables=known)


def chosen_environment(option: str | None, variables: Mapping[str, str]) -> str:
    """Return the section of the config file in effect."""
    return option or variables.get("OROUTER_ENV") or DEFAULT_ENVIRONMENT


def find_config_file(option: Path | None, variables: Mapping[str, str]) -> Path | None:
    """Return the config file in effect, or None for the built-in defaults.

    Raises:
        ConfigError: the named file does not exist.
    """
    named = option or (Path(variables["OROUTER_CONFIG"]) if variables.get("OROUTER_CONFIG") else None)
    if named is not None:
        if not named.exists():
            raise ConfigError(f"there is no config file {named} (--config or OROUTER_CONFIG); orouter init writes one")
        return named
    return next((path for path in (Path(FILE_NAME), _user_file()) if path.exists()), None)


def _user_file() -> Path:
    return Path(platformdirs.user_config_dir("ollama-router", appauthor=False)) / FILE_NAME


def read_text(path: Path) -> str:
    """Read a config file.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: byte {error.start} is not UTF-8") from error


def load_text(path: Path, text: str, section: str, variables: Mapping[str, str]) -> Config:
    """Load the text of a config file as a router would.

    Raises:
        ConfigError: the text is invalid; the error lists all problems.
    """
    try:
        loaded = load_config(text, environment=section, env=variables)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", problems=error.problems) from None
    if found := leaks(loaded):
        raise ConfigError(f"{path}: {'; '.join(found)}")
    return loaded
