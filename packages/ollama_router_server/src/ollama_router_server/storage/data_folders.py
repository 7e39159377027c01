"""Default folders of a router's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import platformdirs

__all__ = ["service_folder", "state_folder", "user_folder"]


def user_folder() -> Path:
    """Return the platform's data directory of this user."""
    return Path(platformdirs.user_data_dir("ollama-router", appauthor=False))


def service_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the directory that systemd provides (`StateDirectory=`, of which the first counts), None without one."""
    first = environment.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(first) if first else None


def state_folder(environment: Mapping[str, str]) -> Path:
    """Return the directory that systemd provides, else this user's."""
    return service_folder(environment) or user_folder()
