"""Contradictions between settings that are well-formed by themselves.

The rules read plain values, not a `Config`, so that contradictions are reported together with wrong types; values of a
wrong type are skipped here, as validation reports them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.name_patterns import can_match
from ollama_router_core.config.problems import KeyPath
from ollama_router_core.config.settings import Config, Server
from ollama_router_core.config.value_types import TARGET_WORDS, with_address
from ollama_router_core.config.words import nearest

__all__ = ["LOCALHOST", "Finding", "check_section", "folded_host", "looks_for_servers"]

Finding = tuple[KeyPath, str]
"""The path and the message of a problem."""

LOCALHOST = "localhost"
"""The result of `folded_host` for this machine."""

_LOOPBACK = frozenset({LOCALHOST, "127.0.0.1", "::1"})
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  (compared, not bound)
_DESTINATIONS = ("servers", "external_hosts")
_MATCHES_NOTHING = "this pattern matches no model name"
_DEFAULT_PORT: int = Server.model_fields["port"].default


def check_section(section: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield every contradiction within one section of plain values."""
    yield from _no_destination(section)
    yield from _shared_names(section)
    yield from _reserved_names(section)
    yield from _shared_addresses(section)
    yield from _calls_itself(section)
    yield from _unknown_assignments(section)
    yield from _one_model_twice(section)
    yield from _two_keys(section)
    yield from _unmatchable_patterns(section)


def _no_destination(section: Mapping[str, Any]) -> Iterator[Finding]:
    destinations = [section.get(key) or {} for key in _DESTINATIONS]
    if looks_for_servers(_mapping(section, "discovery")):
        return
    misspelt = any(key not in _DESTINATIONS and nearest(key, Config.model_fields) in _DESTINATIONS for key in section)
    if misspelt or not all(isinstance(entries, dict) for entries in destinations):
        return
    entries = [entry for group in destinations for entry in group.values()]
    if any(not isinstance(entry, dict) or entry.get("enabled", True) is not False for entry in entries):
        return
    yield ("servers",), "no server and no external host is enabled; the router needs at least one"


def _shared_names(section: Mapping[str, Any]) -> Iterator[Finding]:
    servers = _mapping(section, "servers")
    for name in _mapping(section, "external_hosts"):
        if name in servers:
            yield ("external_hosts", name), "a server has the same name; names must be unique"


def _reserved_names(section: Mapping[str, Any]) -> Iterator[Finding]:
    for name in sorted(TARGET_WORDS.intersection(_mapping(section, "servers"))):
        yield ("servers", name), f"{name!r} is reserved in X-Router-Target; choose another name"


def _shared_addresses(section: Mapping[str, Any]) -> Iterator[Finding]:
    first: dict[tuple[str, int, str], str] = {}
    for name, address in _addresses(section):
        other = first.setdefault(address, name)
        if other != name:
            message = f"the same host and port as servers.{other}; its memory and load would count twice"
            yield ("servers", name), message


def _calls_itself(section: Mapping[str, Any]) -> Iterator[Finding]:
    listen = section.get("proxy_host", Config.model_fields["proxy_host"].default)
    port = section.get("proxy_port", Config.model_fields["proxy_port"].default)
    own = {folded_host(listen)} if isinstance(listen, str) else set()
    if own & _ANY_ADDRESS:
        own |= {LOCALHOST}
    for name, address in _addresses(section):
        if address[0] in own and address[1] == port:
            message = f"the router would call itself, because it listens on port {port} here; change proxy_port"
            yield ("servers", name), message


def looks_for_servers(discovery: Mapping[str, Any]) -> bool:
    """Return whether the settings of discovery name any source."""
    return any(discovery.get(source) for source in ("files", "dns", "kubernetes", "mdns"))


def _unknown_assignments(section: Mapping[str, Any]) -> Iterator[Finding]:
    if looks_for_servers(_mapping(section, "discovery")):
        return  # discovery may find the server: only a warning, see `unknown_assignments`
    known = [*_mapping(section, "servers"), *_mapping(section, "external_hosts")]
    for model, target in _models(section, "explicit_assignments").items():
        if isinstance(target, str) and target not in known:
            near = nearest(target, known)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known) or 'none'}"
            path = (_models_key(section), "explicit_assignments", model)
            yield path, f"expected the name of a server or an external host; {hint}"


def _one_model_twice(section: Mapping[str, Any]) -> Iterator[Finding]:
    for table in ("explicit_assignments", "memory_overrides"):
        seen: dict[str, str] = {}
        values = _models(section, table)
        for model, value in values.items():
            other = seen.setdefault(canonical_name(model), model)
            if values[other] != value:
                yield (_models_key(section), table, model), f"the same model as {other!r}, with a different value"


def _two_keys(section: Mapping[str, Any]) -> Iterator[Finding]:
    for table in _DESTINATIONS:
        for name, host in _mapping(section, table).items():
            if isinstance(host, dict) and host.get("api_key_env") and host.get("api_key_file"):
                yield (table, name, "api_key_file"), "api_key_env is set as well; keep one of them"


def _unmatchable_patterns(section: Mapping[str, Any]) -> Iterator[Finding]:
    models, key = _mapping(section, _models_key(section)), _models_key(section)
    local, rules = models.get("local_only"), models.get("rules")
    for number, pattern in enumerate(local if isinstance(local, list) else ()):
        if isinstance(pattern, str) and not can_match(pattern):
            yield (key, "local_only", number), _MATCHES_NOTHING
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        pattern = rule.get("pattern") if isinstance(rule, dict) else None
        if isinstance(pattern, str) and pattern and not can_match(pattern):
            yield (key, "rules", number, "pattern"), _MATCHES_NOTHING


def _addresses(section: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, int, str]]]:
    for name, entry in _mapping(section, "servers").items():
        if not isinstance(entry, dict) or entry.get("enabled") is False:
            continue
        settings = with_address(entry) if isinstance(entry.get("url"), str) else entry
        host, port, prefix = settings.get("host"), settings.get("port", _DEFAULT_PORT), settings.get("path_prefix")
        if isinstance(host, str) and type(port) is int:
            yield name, (folded_host(host), port, prefix if isinstance(prefix, str) else "")


def folded_host(text: str) -> str:
    """Normalise a host; `localhost`, `127.0.0.1` and `[::1]` become the same."""
    folded = text.lower().strip("[]")
    return LOCALHOST if folded in _LOOPBACK else folded


def _models_key(section: Mapping[str, Any]) -> str:
    return "models" if "models" in section else "model_config"


def _models(section: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    return _mapping(_mapping(section, _models_key(section)), table)


def _mapping(section: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = section.get(key)
    return value if isinstance(value, dict) else {}
