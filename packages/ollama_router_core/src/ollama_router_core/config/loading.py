"""Load a `Config` from text, reporting all problems at once, and dump it.

text --compose--> nodes --choose_section--> one section --NodeReader--> plain values --settings + checks--> Config
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ollama_router_core.config.checks import check_section
from ollama_router_core.config.environments import choose_section
from ollama_router_core.config.erb import without_erb
from ollama_router_core.config.expansion import escape
from ollama_router_core.config.masking import is_secret, without_password
from ollama_router_core.config.nodes import BROKEN, NodeReader
from ollama_router_core.config.problems import KeyPath, Problem, config_error, render_path
from ollama_router_core.config.settings import Config, ExternalHost, Server
from ollama_router_core.config.words import nearest, type_at, type_words, value_words
from ollama_router_core.config.yaml_document import compose, line_of
from ollama_router_core.errors import ConfigError

__all__ = ["dump_config", "load_config", "read_setting", "redacted"]

Destination = TypeVar("Destination", Server, ExternalHost)

_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


def load_config(text: str, *, environment: str = "production", env: Mapping[str, str] = _NO_VARIABLES) -> Config:
    """Load one environment's settings from a config file's text.

    Args:
        text: YAML; either flat settings or a mapping of environments.
        environment: the section to read; a flat file applies to every environment.
        env: environment variables for `${NAME}` and `${NAME:-default}`, and for `<%= ENV['NAME'] %>`.

    Raises:
        ConfigError: the settings are invalid; `problems` are the section's, in file order.
    """
    text, problems = without_erb(text)
    if problems:
        raise config_error(problems)
    root = compose(text)
    reader = NodeReader(env)
    section = choose_section(root, environment, reader)
    values = (None if section is None else reader.read(section)) or {}
    if values is BROKEN:
        raise config_error(reader.problems)
    found = _Findings(reader, values, None if section is None else line_of(section))
    for path, message in check_section(values):
        found.add(path, message)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        found.add_validation(error)
        raise config_error(found.problems) from None
    if found.problems:
        raise config_error(found.problems)
    return config


def read_setting(
    text: str, name: str, *, environment: str = "production", env: Mapping[str, str] = _NO_VARIABLES
) -> object:
    """Read one setting of a text that may be invalid otherwise; None if it is missing or unreadable.

    If the text is not valid YAML, only the line with the setting is read, if there is exactly one.
    """
    text, reader = without_erb(text)[0], NodeReader(env)
    try:
        try:
            root = compose(text)
        except ConfigError:
            root = compose(_only_line(text, name))
        section = choose_section(root, environment, reader)
        values = None if section is None else reader.read(section)
    except ConfigError:
        return None
    return values.get(name) if isinstance(values, dict) else None


def _only_line(text: str, name: str) -> str:
    """Return the only line that sets a name; "" if there is none, or several, as with environments."""
    found = re.findall(rf"^ *({re.escape(name)} *:.*)$", text, re.MULTILINE)
    return str(found[0]) if len(found) == 1 else ""


def dump_config(config: Config) -> str:
    """Dump every setting as YAML, from which `load_config` loads an equal config.

    It has the names of API keys' variables, not the keys, but it contains `database_url` and header values: see
    `redacted`.
    """
    values = _escaped(config.model_dump(mode="python", by_alias=True))
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def redacted(config: Config) -> Config:
    """Replace the passwords in `database_url` and `coordination.url` and all header values by `***`."""
    changes: dict[str, Any] = {}
    if config.database_url is not None:
        changes["database_url"] = without_password(config.database_url)
    if config.coordination.url is not None:
        shown = without_password(config.coordination.url)
        changes["coordination"] = config.coordination.model_copy(update={"url": shown})
    if any(server.headers for server in config.servers.values()):
        changes["servers"] = _without_values(config.servers)
    if any(host.headers for host in config.external_hosts.values()):
        changes["external_hosts"] = _without_values(config.external_hosts)
    return config.model_copy(update=changes) if changes else config


def _without_values(destinations: Mapping[str, Destination]) -> dict[str, Destination]:
    """Return destinations with the values of their header fields masked."""
    return {
        name: destination.model_copy(update={"headers": dict.fromkeys(destination.headers, "***")})
        for name, destination in destinations.items()
    }


class _Dumper(yaml.SafeDumper):
    """Quote texts with control characters in double quotes; other styles turn U+0085 into a space."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)


class _Findings:
    """Collect problems with their lines, without values from the environment."""

    def __init__(self, reader: NodeReader, values: Any, line: int | None) -> None:
        self._reader = reader
        self._values = values
        self._line = line
        self.problems = list(reader.problems)

    def add(self, path: KeyPath, message: str) -> None:
        if self._at(path) is not BROKEN:
            self.problems.append(Problem(line=self._line_at(path), path=render_path(path), message=message))

    def add_validation(self, error: ValidationError) -> None:
        for item in error.errors(include_url=False):
            path = tuple(part for part in item["loc"] if part != "[key]")
            if self._at(path) is not BROKEN:
                self.add(path, self._message(item["type"], path, item.get("ctx", {})))

    def _message(self, kind: str, path: KeyPath, context: Mapping[str, Any]) -> str:
        if kind == "extra_forbidden":
            return _unknown_key(path)
        expected = type_words(type_at(Config, path))
        if kind == "missing":
            return f"missing; expected {expected}"
        if kind == "value_error" and path not in self._reader.variables:
            return str(context["error"])
        return f"expected {expected}, got {self._shown(path)}"

    def _shown(self, path: KeyPath) -> str:
        variable, value = self._reader.variables.get(path), self._at(path)
        if variable is not None:
            return f"the value of {variable}"
        if is_secret(path) or "headers" in path or (isinstance(value, str) and "@" in value):
            return "a value that is hidden because it may be a secret"
        return value_words(value)

    def _at(self, path: KeyPath) -> Any:
        value = self._values
        for part in path:
            try:
                value = value[part]
            except (LookupError, TypeError):
                return BROKEN if value is BROKEN else None
        return value

    def _line_at(self, path: KeyPath) -> int | None:
        line = self._reader.line_at(path)
        return self._line if line is None else line


def _unknown_key(path: KeyPath) -> str:
    *parents, key = path
    section = type_at(Config, parents)
    known = [field.alias or name for name, field in section.model_fields.items()]
    near = nearest(str(key), known) or next((one for one in known if one.endswith(f"_{key}")), None)
    if near:
        return f"unknown key; did you mean {near!r}?"
    homes = [home for home in _homes(Config) if home.rpartition(".")[2] == key]
    if homes:
        return f"unknown key here; did you mean {' or '.join(homes)}?"
    return f"unknown key; known here: {', '.join(known)}"


def _homes(section: Any, prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield path
        below = field.annotation
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield from _homes(below, f"{path}.")


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value
