"""Profiles of hosts, and their effect for one model on one route."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any
from urllib.parse import parse_qs

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.api.version_patterns import matches_any
from ollama_router_core.config.profile_lines import (
    ProfileLine,
    ProfileName,
    Takes,
    Thinking,
    parse_addresses,
    parse_profile,
)
from ollama_router_core.config.settings import Config, ExternalHost
from ollama_router_core.translate import (
    Accepts,
    CallIds,
    HostTraits,
    MemberRule,
    MessageRules,
    RequestRules,
    Route,
    ThinkingLevel,
    codec_of,
    rules_of,
)

__all__ = [
    "HostFacts",
    "Profile",
    "ProfileSource",
    "SourcedLine",
    "profile_of",
    "unknown_lines",
    "with_guessed_profiles",
]

_MOST_REMEMBERED = 256
_LEVELS: Mapping[str, ThinkingLevel] = {
    "disabled": ThinkingLevel.OFF,
    "enabled": ThinkingLevel.ON,
    "low": ThinkingLevel.LOW,
    "medium": ThinkingLevel.MEDIUM,
    "high": ThinkingLevel.HIGH,
    "max": ThinkingLevel.MAX,
}
_TRAITS = ("max_tokens_key", "default_max_tokens", "extensions", "responses", "schemas", "stream_usage")
_SETS = ("image_types", "file_types", "members")
_ACCEPTED = ("later_system", "image_addresses", "file_addresses", "result_images", "result_files", "thoughts")
_MESSAGES = ("developer", "prefill", "call_proof", "call_thoughts")
_AZURE = "azure"
_FIRST_WITH_STREAM_OPTIONS = "2024-09"  # of Azure's `api-version`


class ProfileSource(Struct, frozen=True):
    """The shipped texts by name: one per profile, and `addresses`."""

    texts: Mapping[str, str]

    def guess(self, host: ExternalHost) -> ProfileName:
        """Guess a host's profile from its address; `addresses.yml` documents the patterns."""
        known = self.addresses().items()
        return next((name for name, addresses in known if any(_is_at(host, each) for each in addresses)), "none")

    def addresses(self) -> Mapping[ProfileName, tuple[str, ...]]:
        """Return the address patterns of each profile, in order of precedence."""
        return parse_addresses(self.texts["addresses"])

    def lines(self, name: ProfileName) -> Mapping[str, ProfileLine]:
        """Return the lines of a shipped profile.

        Raises:
            ConfigError: the text is no valid profile.
        """
        if name == "none":
            return {}
        profile = parse_profile(name, self.texts[name])
        return {**(self.lines(profile.extends) if profile.extends else {}), **profile.lines}


def _is_at(host: ExternalHost, address: str) -> bool:
    if address.startswith(":"):
        return host.protocol == "http" and address == f":{host.port}"
    name = host.host.lower()
    return name.endswith(address) if address.startswith(".") else fnmatchcase(name, address)


class SourcedLine(Struct, frozen=True, kw_only=True):
    """An effective line of a profile, defined in a shipped profile (its name) or in the settings (a path)."""

    name: str
    line: ProfileLine
    defined_in: str


class HostFacts(Struct, frozen=True, kw_only=True):
    """What a host accepts for one model on one route.

    Attributes:
        rules: changes to the request in the host's dialect; false if there are none.
        fields: header fields that the request needs.
        retry: statuses after which the request may be resent, None if unknown.
    """

    traits: HostTraits = HostTraits()
    rules: RequestRules = RequestRules()
    fields: tuple[tuple[bytes, bytes], ...] = ()
    retry: frozenset[int] | None = None


class Profile:
    """The profile of a host.

    Attributes:
        name: name of the shipped profile.
        guessed: whether it was guessed from the address.
        lines: the effective lines, in order.
    """

    def __init__(self, name: ProfileName, lines: Iterable[SourcedLine], *, guessed: bool = False) -> None:
        self.name = name
        self.guessed = guessed
        self.lines = tuple(lines)
        self._facts: dict[tuple[str, ...], HostFacts] = {}

    def facts(self, route: Route | None, *names: str) -> HostFacts:
        """Return the facts for a model, matched by any of its names; without a route, those for all routes.

        The names are the host's and the clients', as deployments may have any name.
        """
        key = ("" if route is None else route.name, *names)
        found = self._facts.get(key)
        if found is None:
            if len(self._facts) >= _MOST_REMEMBERED:
                self._facts.clear()
            found = self._facts[key] = self._combined(route, names)
        return found

    def _combined(self, route: Route | None, names: tuple[str, ...]) -> HostFacts:
        lines = [each.line for each in self.lines if _applies(each.line, route, names)]
        accepts = None if route is None else codec_of(route.family).accepts
        fields = {name.lower(): value for line in lines for name, value in line.headers.items()}
        rules = tuple(rule for line in lines if (rule := _rule(line)) != _NO_RULE)
        taken = [line.takes for line in lines]
        return HostFacts(
            traits=reduce(_with_traits, taken, HostTraits(accepts=accepts)),
            rules=rules_of(rules, reduce(_with_messages, taken, MessageRules())),
            fields=tuple((name.encode("ascii"), value.encode("ascii")) for name, value in fields.items()),
            retry=next((frozenset(line.retry) for line in reversed(lines) if line.retry is not None), None),
        )


def profile_of(name: str, host: ExternalHost, source: ProfileSource) -> Profile:
    """Return the profile of a configured host: shipped lines, then the operator's, then the host's settings.

    Raises:
        ConfigError: a shipped text is no valid profile.
    """
    wanted, setting = host.profile, f"external_hosts.{name}"
    base = source.guess(host) if wanted.base is None else wanted.base
    lines = {
        each: SourcedLine(name=each, line=line, defined_in=base)
        for each, line in source.lines(base).items()
        if each not in wanted.without
    }
    for each, line in wanted.lines.items():
        lines[each] = SourcedLine(name=each, line=line, defined_in=f"{setting}.profile.lines.{each}")
    if base == _AZURE and _is_old(host.query or ""):
        known = ProfileLine(takes=Takes(stream_usage=False))
        lines["api_version"] = SourcedLine(name="api_version", line=known, defined_in=f"{setting}.query")
    settings = {key: value for key in _TRAITS if (value := getattr(host, key)) is not None}
    if settings:
        lines["settings"] = SourcedLine(name="settings", line=ProfileLine(takes=Takes(**settings)), defined_in=setting)
    return Profile(base, lines.values(), guessed=wanted.base is None)


def with_guessed_profiles(config: Config, source: ProfileSource) -> tuple[Config, dict[str, ProfileName]]:
    """Return the config with the guessed profiles filled in, and the guessed profiles by host."""
    unnamed = {name: host for name, host in config.external_hosts.items() if host.profile.base is None}
    guessed = {name: source.guess(host) for name, host in unnamed.items()}
    hosts = dict(config.external_hosts)
    for name, base in guessed.items():
        profile = hosts[name].profile.model_copy(update={"base": base})
        hosts[name] = hosts[name].model_copy(update={"profile": profile})
    return config.model_copy(update={"external_hosts": hosts}), guessed


def unknown_lines(config: Config, source: ProfileSource) -> list[str]:
    """Return warnings for lines in `without` that the host's profile does not have."""
    found = []
    for name, host in config.external_hosts.items():
        base = source.guess(host) if host.profile.base is None else host.profile.base
        unknown = sorted(set(host.profile.without) - set(source.lines(base)))
        if unknown:
            found.append(
                f"external host {name}: its profile {base} has no line {', '.join(unknown)}, which `without` names"
            )
    return found


def _is_old(query: str) -> bool:
    return any(version < _FIRST_WITH_STREAM_OPTIONS for version in parse_qs(query).get("api-version", []))


def _applies(line: ProfileLine, route: Route | None, names: tuple[str, ...]) -> bool:
    if line.routes and (route is None or route.name not in line.routes):
        return False
    return (not line.models or _fits(names, line.models)) and not _fits(names, line.unless)


def _fits(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    return any(matches_any(name, patterns) for name in names)


_NO_RULE = MemberRule()


def _rule(line: ProfileLine) -> MemberRule:
    """Return a line's changes to members; an empty rule if there are none."""
    rule = MemberRule(
        rename=tuple(line.rename.items()),
        drop=tuple(line.drop),
        replace=tuple((name, dict(values)) for name, values in line.replace.items()),
        clamp=tuple((name, (bounds.min, bounds.max)) for name, bounds in line.clamp.items()),
        set=tuple(line.set.items()),
        default=tuple(line.default.items()),
    )
    if rule == _NO_RULE:
        return rule
    conditions = ((name, wanted if isinstance(wanted, bool) else tuple(wanted)) for name, wanted in line.when.items())
    return replace(rule, when=tuple(conditions))


def _with_traits(traits: HostTraits, takes: Takes) -> HostTraits:
    changes: dict[str, Any] = {key: value for key in _TRAITS if (value := getattr(takes, key)) is not None}
    if takes.tools_on is not None:
        changes["tools_on"] = takes.tools_on
    if takes.thinking is not None:
        changes["thinking"] = _thinking_members(takes.thinking)
    if traits.accepts is not None:
        changes["accepts"] = _with_accepted(traits.accepts, takes)
    return replace(traits, **changes)


def _thinking_members(levels: Thinking) -> Mapping[ThinkingLevel, Mapping[str, Any]]:
    return {_LEVELS[level]: members for level, members in levels.items()}


def _with_accepted(accepts: Accepts, takes: Takes) -> Accepts:
    changes: dict[str, Any] = {key: value for key in _ACCEPTED if (value := getattr(takes, key)) is not None}
    changes |= {key: frozenset(value) for key in _SETS if (value := getattr(takes, key)) is not None}
    if takes.call_ids is not None:
        changes["call_ids"] = CallIds(**takes.call_ids.model_dump())
    return replace(accepts, **changes)


def _with_messages(rules: MessageRules, takes: Takes) -> MessageRules:
    changes: dict[str, Any] = {key: value for key in _MESSAGES if (value := getattr(takes, key)) is not None}
    if takes.refused_in_messages is not None:
        changes["refused"] = tuple(takes.refused_in_messages)
    if takes.later_system is not None:
        changes["later_system"] = takes.later_system == "kept"
    return replace(rules, **changes)
