"""Authorisation of a user for a route, a model, a client address and a time.

A field of `Grants` that is None is not set. A user's own grants take precedence over the group's; a field that neither
sets is limited by the role only.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Container, Iterable
from enum import StrEnum
from typing import Any, Literal, get_args

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.access.addresses import is_within, read_network
from ollama_router_core.api.endpoints import Endpoint, Kind
from ollama_router_core.api.model_names import canonical_name, is_cloud_name
from ollama_router_core.api.name_patterns import matches_pattern
from ollama_router_core.api.reach import Reach
from ollama_router_core.errors import AccessError, Forbidden

__all__ = [
    "CloudRule",
    "Grants",
    "HostRule",
    "InvalidGrants",
    "Role",
    "SpeaksFor",
    "check_any_model",
    "check_cloud",
    "check_endpoint",
    "check_expiry",
    "check_host",
    "check_model",
    "check_network",
    "combine_grants",
    "granted_by",
    "grants_by_token",
    "grants_from_json",
    "grants_to_json",
    "kinds_of",
    "may_reach",
    "may_unload",
    "may_use_cloud",
    "may_use_host",
    "may_use_model",
]

Role = Literal["admin", "user", "viewer"]
CloudRule = Literal["none", "admin", "all"]
"""Who may use models of ollama.com if grants do not decide; the setting `cloud`."""
SpeaksFor = Literal["any", "group"]
"""On whose behalf a user may send requests; by default on nobody's."""
HostRule = Literal["all", "granted"]
"""Who may use external hosts if grants do not decide; the setting `external_hosts_for`."""

_KINDS: dict[str, tuple[Kind, ...]] = {"admin": tuple(Kind), "user": (Kind.INFER, Kind.READ), "viewer": (Kind.READ,)}
"""Tuples, as they compare a kind by identity; a set would call its hash in Python."""
_PATTERN = re.compile(r"[!-~]{1,200}", re.ASCII)
_MOST_ENTRIES = 200
_NOT_THIS_MODEL = "this user may not use this model; an administrator can allow it"


class InvalidGrants(AccessError):
    """Invalid grants: an unknown field, a wrong type, or an invalid network."""

    code = "invalid_grants"
    status_hint = 400


class Grants(Struct, frozen=True, kw_only=True):
    """The grants of one user or group; a field that is None is decided by the group, then by the role.

    `models` are shell patterns (`*`, `?`, `[...]`) over model names as Ollama reads them: `llama3.1` is
    `llama3.1:latest`, `llama3.1:*` is every tag, case is ignored (`api.name_patterns`). `hosts` are patterns over
    names of external hosts. An empty list allows nothing. `cloud` False forbids models of Ollama's cloud. `reach` is
    what requests may use of external hosts beyond a response. `unload` allows unloading models. `kinds` are the kinds
    of route, within the role's. `networks` are client networks in CIDR form. `expires_at` is seconds since 1970 (UTC).
    `batch` True gives every request batch priority, `max_wait` is the maximum wait for a server in seconds.
    `speaks_for` is on whose behalf a user may send requests: any user's, or members' of the user's group. The other
    five numbers are limits, which `limits` counts; days and months are UTC.
    """

    models: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    cloud: bool | None = None
    reach: tuple[Reach, ...] | None = None
    unload: bool | None = None
    kinds: tuple[Kind, ...] | None = None
    networks: tuple[str, ...] | None = None
    expires_at: float | None = None
    batch: bool | None = None
    max_wait: int | None = None
    speaks_for: SpeaksFor | None = None
    requests_per_minute: int | None = None
    concurrent_requests: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None


_FIELDS = Grants.__struct_fields__
_TRUTHS = ("cloud", "unload", "batch")
_LISTS = ("models", "hosts", "reach", "kinds", "networks")
_NUMBERS = (
    "max_wait",
    "requests_per_minute",
    "concurrent_requests",
    "tokens_per_minute",
    "tokens_per_day",
    "tokens_per_month",
)


def combine_grants(own: Grants, group: Grants) -> Grants:
    """Combine grants field by field: the user's own, else the group's."""
    chosen = {name: getattr(own, name) for name in _FIELDS}
    return Grants(**{name: getattr(group, name) if value is None else value for name, value in chosen.items()})


def grants_by_token(grants: Grants, *, batch: bool) -> Grants:
    """Return a user's grants with one token: a `batch` token lowers the priority; no token raises it."""
    return replace(grants, batch=True) if batch else grants


def kinds_of(role: Role) -> tuple[Kind, ...]:
    """Return the kinds of route that a role may use."""
    return _KINDS[role]


def granted_by(patterns: Iterable[str], model: str) -> str | None:
    """Return the first pattern that matches a model's name, in any spelling; None if none does."""
    name = canonical_name(model)
    return next((pattern for pattern in patterns if matches_pattern(name, pattern)), None)


def check_endpoint(role: Role, endpoint: Endpoint, grants: Grants | None = None) -> None:
    """Check that the role and the grants allow an endpoint's kind of route.

    Raises:
        Forbidden: they do not.
    """
    if endpoint.kind not in _KINDS[role]:
        raise Forbidden(f"{endpoint.path} needs another role: a {role} may not use {endpoint.kind} routes")
    if grants is not None and grants.kinds is not None and endpoint.kind not in grants.kinds:
        raise Forbidden(f"{endpoint.path} is a route of the kind {endpoint.kind}, which this user may not use")


def may_use_model(grants: Grants, model: str) -> bool:
    """Return whether a model, in any spelling, is granted."""
    if grants.cloud is False and is_cloud_name(model):
        return False
    return grants.models is None or granted_by(grants.models, model) is not None


def check_model(grants: Grants, model: str) -> None:
    """Check that a model is granted.

    Raises:
        Forbidden: it is not; the text is the same whether or not the model exists.
    """
    if (grants.models is None and grants.cloud is not False) or may_use_model(grants, model):
        return
    if grants.cloud is False and is_cloud_name(model):
        raise Forbidden("this user may not use models of Ollama's cloud; an administrator can allow it")
    raise Forbidden(_NOT_THIS_MODEL)


def check_any_model(grants: Grants) -> None:
    """Check that any model is granted, before the request's model is known.

    Raises:
        Forbidden: none is; the text is that of `check_model`.
    """
    if grants.models == ():
        raise Forbidden(_NOT_THIS_MODEL)


def may_use_cloud(role: Role, grants: Grants, rule: CloudRule) -> bool:
    """Return whether models and tools of ollama.com are granted; the rule `none` overrides grants."""
    if rule == "none" or grants.cloud is not None:
        return rule != "none" and bool(grants.cloud)
    return rule == "all" or role == "admin"


def check_cloud(role: Role, grants: Grants, rule: CloudRule, what: str) -> None:
    """Check the additional permission for models and tools of ollama.com.

    Raises:
        Forbidden: it is missing; the request does not fall back to another model.
    """
    if not may_use_cloud(role, grants, rule):
        raise Forbidden(f"{what} would run at ollama.com, which this user may not use; see the setting `cloud`")


def may_reach(role: Role, grants: Grants, open_to_all: Container[Reach], kind: Reach) -> bool:
    """Return whether requests may use a kind of reach at an external host; without a grant, admins' may."""
    if kind in open_to_all:
        return True
    return role == "admin" if grants.reach is None else kind in grants.reach


def may_unload(role: Role, grants: Grants, *, alone: bool) -> bool:
    """Return whether a user may unload models; without a grant, admins may, and the only user (`alone`)."""
    return role == "admin" or alone if grants.unload is None else grants.unload


def may_use_host(role: Role, grants: Grants, rule: HostRule, host: str) -> bool:
    """Return whether a user may use an external host, by grant or, without one, by the rule; `host` is its name."""
    if grants.hosts is None:
        return rule == "all" or role == "admin"
    return any(fnmatch.fnmatchcase(host, pattern) for pattern in grants.hosts)


def check_host(role: Role, grants: Grants, rule: HostRule, host: str) -> None:
    """Check that an external host is granted.

    Raises:
        Forbidden: it is not.
    """
    if not may_use_host(role, grants, rule, host):
        raise Forbidden(f"this user may not use the external host {host}; an administrator can allow it")


def check_network(grants: Grants, address: str | None) -> None:
    """Check that a client's address is in a granted network; None is an unknown address.

    Raises:
        Forbidden: it is not, or it is unknown while networks are restricted.
    """
    if grants.networks is None:
        return
    if address is None or not is_within(grants.networks, address):
        raise Forbidden("this user may not connect from this address; an administrator can allow its network")


def check_expiry(grants: Grants, now: float) -> None:
    """Check that access has not expired; `now` is seconds since 1970.

    Raises:
        Forbidden: it has.
    """
    if grants.expires_at is not None and now >= grants.expires_at:
        raise Forbidden("this user's access has expired; an administrator can extend it")


def grants_to_json(grants: Grants) -> dict[str, Any]:
    """Convert grants to JSON types, without the fields that are not set."""
    values = ((name, getattr(grants, name)) for name in _FIELDS)
    return {name: list(map(str, value)) if name in _LISTS else value for name, value in values if value is not None}


def grants_from_json(values: Any) -> Grants:
    """Read grants from JSON types; null is the same as a missing field.

    Raises:
        InvalidGrants: not an object, an unknown field, a wrong type, an unknown kind or an invalid network.
    """
    if not isinstance(values, dict):
        raise InvalidGrants("grants must be an object")
    unknown = sorted(set(values) - set(_FIELDS), key=str)
    if unknown:
        raise InvalidGrants(f"unknown field {str(unknown[0])[:50]!r}; known: {', '.join(_FIELDS)}")
    return Grants(**{name: _read(name, value) for name, value in values.items() if value is not None})


def _read(name: str, value: Any) -> Any:
    if name in _TRUTHS:
        if not isinstance(value, bool):
            raise InvalidGrants(f"{name} must be true or false")
        return value
    if name == "expires_at":
        return _moment(value)
    if name == "speaks_for":
        if value not in get_args(SpeaksFor):
            raise InvalidGrants("speaks_for must be any or group")
        return value
    if name in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            raise InvalidGrants(f"{name} must be a whole number, 0 or more")
        return value
    return _read_list(name, value)


def _moment(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise InvalidGrants("expires_at must be a number of seconds since 1970")
    return float(value)


def _read_list(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        raise InvalidGrants(f"{name} must be a list of strings")
    if len(value) > _MOST_ENTRIES:
        raise InvalidGrants(f"{name} may have {_MOST_ENTRIES} entries at most")
    if name == "kinds":
        return _members(name, Kind, value)
    if name == "reach":
        return _members(name, Reach, value)
    if name == "networks":
        return tuple(str(_checked_network(text)) for text in value)
    if not all(_PATTERN.fullmatch(text) for text in value):
        raise InvalidGrants(f"{name} must contain patterns of 1 to 200 ASCII characters without spaces")
    return tuple(value)


def _members(name: str, members: type[StrEnum], texts: Iterable[str]) -> tuple[StrEnum, ...]:
    try:
        return tuple(members(text) for text in texts)
    except ValueError:
        raise InvalidGrants(f"{name} must be among {', '.join(members)}") from None


def _checked_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return read_network(text)
    except ValueError:
        raise InvalidGrants(f"{text[:50]!r} is not a network; write it as 10.0.0.0/8 or fd00::/8") from None
