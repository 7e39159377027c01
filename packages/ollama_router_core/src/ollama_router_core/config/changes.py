"""Differences between two configs, by path, never by value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ollama_router_core.config.settings import Config

__all__ = ["changed_paths", "needs_restart"]

_FIXED: Final = (
    "proxy_host",
    "proxy_port",
    "workers",
    "database_url",
    "coordination",
    "limits.shutdown_grace",
    "limits.lame_duck",
    "tls",
    "logging.enabled",
    "logging.format",
    "logging.directory",
    "logging.max_size",
    "logging.max_files",
    "request_log.directory",
    "request_log.max_size",
    "request_log.max_files",
    "traces",
)


def changed_paths(old: Config, new: Config) -> tuple[str, ...]:
    """Return the paths of changed settings, such as `servers.big.priority`; an added or removed table is one path."""
    values = (config.model_dump(mode="python", by_alias=True) for config in (old, new))
    return tuple(_differences(next(values), next(values), ""))


def needs_restart(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths whose changes take effect only after a restart."""
    return tuple(path for path in paths if path in _FIXED or path.split(".")[0] in _FIXED)


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if not (isinstance(old, dict) and isinstance(new, dict)):
        yield path
        return
    for key in [*old, *(key for key in new if key not in old)]:
        inner = f"{path}.{key}" if path else str(key)
        if key in old and key in new:
            yield from _differences(old[key], new[key], inner)
        else:
            yield inner
