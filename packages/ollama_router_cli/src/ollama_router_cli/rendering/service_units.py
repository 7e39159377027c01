"""Definitions for a service manager: units of systemd, an agent of launchd."""

from __future__ import annotations

import plistlib
import re
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from ollama_router_cli.errors import CommandFailed
from ollama_router_core.config.client_settings import Limits

__all__ = ["LABEL", "render_agent", "render_socket", "render_unit", "stop_seconds"]

LABEL: Final = "dev.ollama-router"
"""The agent's name."""

_PROGRAM: Final = "/opt/ollama-router/bin/orouter"
_CONFIG: Final = "/etc/ollama-router/orouter.yml"
_ADDRESS: Final = "127.0.0.1:11433"
_STOP: Final = 630
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./+@:-]+")


def stop_seconds(limits: Limits) -> int:
    """Return the seconds for which a service manager has to wait before it kills a stopping router."""
    return round(limits.lame_duck + limits.shutdown_grace) + 30


def render_unit(program: Path, config: Path, *, system: bool, environment: str | None = None, stop: int = _STOP) -> str:
    """Render the service's unit, for a section of the config if given; `stop` is in seconds.

    Raises:
        CommandFailed: a word contains characters with a special meaning in a unit.
    """
    words = [str(config), *_section(environment)]
    for word in (str(program), *words):
        if not _PLAIN.fullmatch(word):
            raise CommandFailed(f"a unit cannot name {word}: only letters, digits and _ . / + @ : - may be in it")
    text = _shipped("system.service" if system else "user.service")
    text = text.replace(f"TimeoutStopSec={_STOP}", f"TimeoutStopSec={stop}")
    return text.replace(_PROGRAM, str(program)).replace(_CONFIG, " ".join(words))


def _section(environment: str | None) -> tuple[str, ...]:
    return () if environment is None else ("--environment", environment)


def render_socket(host: str, port: int) -> str:
    """Render the unit of the socket that systemd opens for the router.

    Raises:
        CommandFailed: the host is a name, which systemd does not resolve.
    """
    try:
        ip_address(host)
    except ValueError:
        raise CommandFailed(f"a socket of systemd is opened at an address: proxy_host is {host}") from None
    bracketed = f"[{host}]" if ":" in host else host
    return _shipped("ollama-router.socket").replace(_ADDRESS, f"{bracketed}:{port}")


def render_agent(program: Path, config: Path, log: Path, *, environment: str | None = None, stop: int = _STOP) -> str:
    """Render an agent of launchd, which starts with the session and restarts whenever it exits."""
    agent = {
        "Label": LABEL,
        "ProgramArguments": [str(program), "--config", str(config), *_section(environment), "serve"],
        "RunAtLoad": True,
        "KeepAlive": True,
        "ExitTimeOut": stop,
        "SoftResourceLimits": {"NumberOfFiles": 65536},
        "StandardErrorPath": str(log),
    }
    return plistlib.dumps(agent).decode()


def _shipped(name: str) -> str:
    return files("ollama_router_cli.units").joinpath(name).read_text(encoding="utf-8")
