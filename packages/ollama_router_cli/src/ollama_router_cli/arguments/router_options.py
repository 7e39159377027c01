"""Options of commands that ask a running router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollama_router_cli.arguments.options import (
    ConfigOption,
    EnvironmentOption,
    TokenFileOption,
    UrlOption,
    in_place_of,
    shared,
)

__all__ = ["RouterAccess", "asks_router"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterAccess:
    """Where the router is, and what to show it: `url`, else the address that the config says."""

    url: str | None
    token_file: Path | None
    config: Path | None
    environment: str | None


def _read(typed: Mapping[str, Any]) -> RouterAccess:
    return RouterAccess(**typed)


asks_router = in_place_of(
    "router",
    [
        shared("url", UrlOption, default=None),
        shared("token_file", TokenFileOption, default=None),
        shared("config", ConfigOption, default=None),
        shared("environment", EnvironmentOption, default=None),
    ],
    _read,
)
"""Gives a command the options that its parameter `router` is made of."""
