"""Options of commands that query a running router."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ollama_router_cli.arguments.options import (
    ConfigOption,
    EnvironmentOption,
    JsonOption,
    TokenFileOption,
    UrlOption,
    in_place_of,
    shared,
)

__all__ = ["RouterAccess", "asks_router"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterAccess:
    """The address and token of the router, and the output format: `url`, else the address from the config."""

    url: str | None
    token_file: Path | None
    config: Path | None
    environment: str | None
    as_json: bool

    @property
    def place(self) -> dict[str, Any]:
        """The arguments of `router_client`."""
        return {name: value for name, value in asdict(self).items() if name != "as_json"}


asks_router = in_place_of(
    "router",
    [
        shared("url", UrlOption, default=None),
        shared("token_file", TokenFileOption, default=None),
        shared("config", ConfigOption, default=None),
        shared("environment", EnvironmentOption, default=None),
        shared("as_json", JsonOption, default=False),
    ],
    lambda typed: RouterAccess(**typed),
)
"""Adds the options of the parameter `router` to a command."""
