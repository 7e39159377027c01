"""The commented config that `orouter init` writes.

A line `# text` explains; a line `#key: value` is a setting to uncomment, and the file still loads when all are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ollama_router_core.config.checks import LOCALHOST, folded_host
from ollama_router_core.config.defaults import OLLAMA_PORT
from ollama_router_core.config.settings import (
    Config,
    ExternalHost,
    HostedModel,
    ModelRule,
    ModelSettings,
    Server,
    safe_name,
)

__all__ = ["ProbedServer", "render_template"]

_WIDTH = 100
_HEADER = """\
Settings of ollama-router. Lines like "#key: value" are defaults and examples: remove the # to use one.

`orouter config check` checks this file; `orouter config show` prints what holds.

These settings hold in every environment. To tell environments apart, indent them all under a key such as
`production:` and add others beside it; YAML's anchors and merge keys work, and nothing else is merged.

${NAME} and ${NAME:-default} in a value stand for environment variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedServer:
    """What asking one server showed. `version` is None when it did not say; `error` is None when it answered."""

    name: str
    host: str
    port: int = OLLAMA_PORT
    protocol: Literal["http", "https"] = "http"
    version: str | None = None
    models: tuple[str, ...] = ()
    error: str | None = None


def render_template(probed: Sequence[ProbedServer] = ()) -> str:
    """A commented config that loads: with the probed servers, or with one Ollama on this machine.

    A server probed twice is written once, names are made unique, and a server that did not answer is written too,
    since the router starts without it. The port is 11434, or the next free one where a server has it on this machine.
    """
    servers = _unique(probed) or {"local": ProbedServer(name="local", host="127.0.0.1")}
    lines = [
        *_header(),
        *_setting(Config, "proxy_host"),
        *_setting(Config, "proxy_port", _free_port(servers.values())),
        *_servers(servers),
        *_external_hosts(),
        *_models(next(iter(servers))),
        *_scalars(Config),
        *_sections(),
    ]
    return "\n".join(lines) + "\n"


def _header() -> Iterator[str]:
    for paragraph in _HEADER.split("\n\n"):
        yield from _comment(paragraph)


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
    return next(port for port in range(OLLAMA_PORT, OLLAMA_PORT + len(taken) + 1) if port not in taken)


def _servers(servers: dict[str, ProbedServer]) -> Iterator[str]:
    yield from _heading(Config, "servers")
    yield from _keys(Server)
    for name, server in servers.items():
        yield f"  {_scalar(name)}:"
        yield from _comment(_found(server), 4)
        yield f"    host: {_scalar(server.host)}"
        yield f"    port: {server.port}"
        yield f"    {'' if server.protocol == 'https' else '#'}protocol: {server.protocol}"
        yield "    priority: 1"
        yield "    #max_memory_gb: 24.0"
        yield "    #max_concurrent: 4"
        yield "    #enabled: true"


def _found(server: ProbedServer) -> str:
    if server.error is not None:
        return f"Did not answer: {server.error}"
    if server.version is None and not server.models:
        return ""
    models = ", ".join(server.models) or "none"
    return f"Ollama {server.version or '(version unknown)'}. Models: {models}"


def _external_hosts() -> Iterator[str]:
    yield from _heading(Config, "external_hosts")
    yield from _keys(ExternalHost)
    yield from _keys(HostedModel, "models: NAME: ")
    for name, host in (("openai", "api.openai.com"), ("anthropic", "api.anthropic.com")):
        yield f"  #{name}:"
        yield f"    #host: {host}"
        yield f"    #api_key_env: {name.upper()}_API_KEY"
    yield "    #models:"
    yield "      #claude: claude-sonnet-4-5"


def _models(server: str) -> Iterator[str]:
    examples: dict[str, tuple[str, ...]] = {
        "explicit_assignments": (f"#llama3.2:1b: {_scalar(server)}", "#gpt-4o: openai"),
        "memory_overrides": ("#llama3.1:70b: 43.0",),
        "memory_patterns": ('#- {pattern: "-70b|:70b", memory_gb: 40.0}',),
    }
    yield from _heading(Config, "models")
    yield from _keys(ModelRule, "rules: ")
    for name in ModelSettings.model_fields:
        if name in examples:
            yield from _heading(ModelSettings, name, 2)
            yield from (f"    {line}" for line in examples[name])
        else:
            yield from _setting(ModelSettings, name, indent=2)


def _scalars(section: type[BaseModel]) -> Iterator[str]:
    written = {"proxy_host", "proxy_port", "servers", "external_hosts"}
    for name, field in section.model_fields.items():
        if name not in written and not isinstance(_default(field), BaseModel):
            yield from _setting(section, name)


def _sections() -> Iterator[str]:
    for name, field in Config.model_fields.items():
        default = _default(field)
        if isinstance(default, BaseModel) and name != "models":
            yield from _heading(Config, name)
            for key in type(default).model_fields:
                yield from _setting(type(default), key, indent=2)


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def _heading(section: type[BaseModel], name: str, indent: int = 0) -> Iterator[str]:
    field = section.model_fields[name]
    yield ""
    yield from _comment(field.description or "", indent)
    yield f"{' ' * indent}{field.alias or name}:"


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield from _comment(f"{prefix}{name}: {field.description}", 2)


def _setting(section: type[BaseModel], name: str, value: Any = None, *, indent: int = 0) -> Iterator[str]:
    field = section.model_fields[name]
    yield ""
    yield from _comment(field.description or "", indent)
    mark = "#" if value is None else ""
    yield f"{' ' * indent}{mark}{name}: {_scalar(_default(field) if value is None else value)}"


def _comment(text: str, indent: int = 0) -> Iterator[str]:
    start = " " * indent + "# "
    shown = "".join(char if char.isprintable() else " " for char in text)
    yield from textwrap.wrap(
        " ".join(shown.split()),
        _WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _scalar(value: Any) -> str:
    text: str = yaml.safe_dump(value, allow_unicode=True, width=10**6)
    return text.partition("\n")[0]
