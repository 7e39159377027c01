"""Problems of a config, rendered for the operator."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from ollama_router_core.errors import ConfigError

__all__ = ["KeyPath", "Problem", "config_error", "render_path"]

KeyPath = tuple[str | int, ...]
"""Keys and list indices (from 0) from the root of a section to a value."""

_BARE = re.compile(r"[A-Za-z0-9_\-]+", re.ASCII)


class Problem(Struct, frozen=True, kw_only=True):
    """One problem. `line` is from 1, None without a line; `path` may be empty."""

    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        location = f"line {self.line}" if self.line is not None else ""
        return ": ".join(part for part in (location, self.path, self.message) if part)


def render_path(path: KeyPath) -> str:
    """Render a path: `servers.big.port`, `memory_patterns[2].pattern`, `memory_overrides["llama3.1:70b"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _BARE.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{_printable(part)}"]'
    return text


def config_error(problems: Iterable[Problem]) -> ConfigError:
    """Build the error that lists each distinct problem once, in file order."""
    ordered = tuple(sorted(dict.fromkeys(problems), key=_position))
    count = "1 problem" if len(ordered) == 1 else f"{len(ordered)} problems"
    text = "\n".join(f"  {problem}" for problem in ordered)
    return ConfigError(f"the configuration has {count}:\n{text}", problems=ordered)


def _position(problem: Problem) -> tuple[int, str, str]:
    return (problem.line or 0, problem.path, problem.message)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
