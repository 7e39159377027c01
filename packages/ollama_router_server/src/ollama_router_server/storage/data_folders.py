"""Default folders of the router's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import platformdirs

__all__ = ["service_folder", "state_folder", "user_folder"]


def user_folder() -> Path:
    """Return this user's data directory on the platform."""
    return Path(platformdirs.user_data_dir("ollama-router", appauthor=False))


def service_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the directory from systemd (`StateDirectory=`; the first of several), None without one."""
    first = environment.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(first) if first else None


def state_folder(environment: Mapping[str, str]) -> Path:
    """Return the directory from systemd, else this user's data directory."""
    return service_folder(environment) or user_folder()
