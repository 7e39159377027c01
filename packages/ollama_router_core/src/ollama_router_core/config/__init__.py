"""Typed settings and how they are read.

Belongs here: the shape of a config file (`settings`), text to `Config` with every problem (`loading`).
Does not belong here: opening files, reading the process environment.
"""

from __future__ import annotations

from ollama_router_core.config.loading import dump_config, load_config
from ollama_router_core.config.problems import Problem
from ollama_router_core.config.settings import (
    Config,
    ExternalHost,
    Limits,
    Logging,
    MemoryPattern,
    ModelSettings,
    Server,
    Strategy,
    parse_size,
)

__all__ = [
    "Config",
    "ExternalHost",
    "Limits",
    "Logging",
    "MemoryPattern",
    "ModelSettings",
    "Problem",
    "Server",
    "Strategy",
    "dump_config",
    "load_config",
    "parse_size",
]
