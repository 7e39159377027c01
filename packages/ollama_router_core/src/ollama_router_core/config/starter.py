"""The config that `orouter init` writes: the servers found and the most commonly changed settings.

A line `# text` is an explanation; a line `#key: value` is a setting to uncomment. The file loads with all settings
uncommented.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from ollama_router_core.config.checks import LOCALHOST, folded_host
from ollama_router_core.config.defaults import OLLAMA_PORT, ROUTER_PORT
from ollama_router_core.config.settings import Config, StrategyName, safe_name
from ollama_router_core.config.words import field_type, type_words
from ollama_router_core.config.yaml_text import comment, inline

__all__ = ["ProbedServer", "render_starter"]

_SHOWN_MODELS = 8
_STRATEGY: StrategyName = "fastest"
"""The strategy of new configs; the setting's default is that of the Rails application."""


class ProbedServer(Struct, frozen=True, kw_only=True):
    """One server's probe: `version` is None if not reported, `error` is None if the server answered.

    `gpus` is the memory of each of its GPUs in GiB, if measured.
    """

    name: str
    host: str
    port: int = OLLAMA_PORT
    protocol: Literal["http", "https"] = "http"
    version: str | None = None
    models: tuple[str, ...] = ()
    error: str | None = None
    gpus: tuple[float, ...] = ()


def render_starter(probed: Sequence[ProbedServer] = ()) -> str:
    """Render a short, valid config with the probed servers, or with one Ollama on this machine.

    Servers with the same address appear once, names are made unique, and servers that did not answer are included, as
    the router can start without them. The port is 11434, or from 11433 down the first that no local server uses.
    """
    servers = _unique(probed) or {"local": ProbedServer(name="local", host="127.0.0.1")}
    strategies = type_words(field_type(Config.model_fields["routing_strategy"]))
    lines = [
        "# `orouter config check` checks this file, `orouter config reference` explains every setting.",
        "proxy_host: 127.0.0.1 # 0.0.0.0 listens on every interface",
        f"proxy_port: {_free_port(servers.values())}",
        "",
        "servers:",
        *(line for name, server in servers.items() for line in _server(name, server)),
        "",
        *comment(f"How the servers that can take a request are ranked: {strategies}."),
        f"routing_strategy: {_STRATEGY}",
        "",
        "# Paid models are served only by explicit assignment, and only to users who were granted the host.",
        "external_hosts_for: granted",
        "#external_hosts:",
        "  #openai: {host: api.openai.com, api_key_env: OPENAI_API_KEY} # profile: openai, by its address",
        "#model_config:",
        "  #explicit_assignments: {gpt-4o: openai}",
    ]
    return "\n".join(lines) + "\n"


def _unique(probed: Iterable[ProbedServer]) -> dict[str, ProbedServer]:
    found: dict[str, ProbedServer] = {}
    seen: set[tuple[str, int]] = set()
    for server in probed:
        address = (folded_host(server.host), server.port)
        if address in seen:
            continue
        seen.add(address)
        name = base = safe_name(server.name)
        number = 2
        while name in found:
            name, number = f"{base}-{number}", number + 1
        found[name] = server
    return found


def _free_port(servers: Iterable[ProbedServer]) -> int:
    taken = {server.port for server in servers if folded_host(server.host) == LOCALHOST}
    others = range(ROUTER_PORT, ROUTER_PORT - len(taken) - 1, -1)
    return next((port for port in others if port not in taken), ROUTER_PORT) if OLLAMA_PORT in taken else OLLAMA_PORT


def _server(name: str, server: ProbedServer) -> Iterator[str]:
    yield f"  {inline(name)}:"
    yield from comment(_found(server), 4)
    yield f"    host: {inline(server.host)}"
    yield f"    port: {server.port}"
    if server.protocol == "https":
        yield "    protocol: https"
    yield "    priority: 1 # the lowest number is preferred among the servers that fit"
    if server.gpus:
        yield f"    gpus: {inline(list(server.gpus))} # GiB of each GPU"
    yield "    #max_memory_gb: 24.0 # largest model, in GiB with its context, to place here"
    yield "    #default_context: 8192 # the server's OLLAMA_CONTEXT_LENGTH"


def _found(server: ProbedServer) -> str:
    if server.error is not None:
        return f"Did not answer: {server.error}"
    if server.version is None and not server.models:
        return ""
    shown = ", ".join(server.models[:_SHOWN_MODELS]) or "none"
    more = len(server.models) - _SHOWN_MODELS
    return f"Ollama {server.version or '(version unknown)'}. Models: {shown}" + (
        f" and {more} more" if more > 0 else ""
    )
