"""Settings: their types, and loading, validation and rendering."""

from __future__ import annotations

from ollama_router_core.config.changes import changed_paths, needs_restart
from ollama_router_core.config.commented import render_commented
from ollama_router_core.config.defaults import default_config, parse_ollama_host
from ollama_router_core.config.found_servers import FoundServer, FoundServers, found_server, name_at, with_found
from ollama_router_core.config.loading import dump_config, load_config, read_setting, redacted
from ollama_router_core.config.masking import fill_secrets, mask_secrets, without_password
from ollama_router_core.config.problems import Problem
from ollama_router_core.config.reference import Setting, render_reference, settings_reference
from ollama_router_core.config.settings import (
    Config,
    ExternalHost,
    HostedModel,
    Limits,
    Logging,
    MemoryPattern,
    ModelSettings,
    Server,
)
from ollama_router_core.config.starter import ProbedServer, render_starter

__all__ = [
    "Config",
    "ExternalHost",
    "FoundServer",
    "FoundServers",
    "HostedModel",
    "Limits",
    "Logging",
    "MemoryPattern",
    "ModelSettings",
    "ProbedServer",
    "Problem",
    "Server",
    "Setting",
    "changed_paths",
    "default_config",
    "dump_config",
    "fill_secrets",
    "found_server",
    "load_config",
    "mask_secrets",
    "name_at",
    "needs_restart",
    "parse_ollama_host",
    "read_setting",
    "redacted",
    "render_commented",
    "render_reference",
    "render_starter",
    "settings_reference",
    "with_found",
    "without_password",
]
