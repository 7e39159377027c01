"""A user's effective rights and their origins: the user's grants, the group's, the role or a setting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct

from ollama_router_core.access.grants import (
    CloudRule,
    Grants,
    HostRule,
    Role,
    combine_grants,
    granted_by,
    grants_to_json,
    kinds_of,
    may_use_cloud,
    may_use_host,
    may_use_model,
)
from ollama_router_core.api.model_names import is_cloud_name

__all__ = ["Judgement", "Origin", "Person", "Right", "effective_rights", "judge_host", "judge_model"]

Origin = Literal["own", "group", "role", "setting"]


class Person(Struct, frozen=True, kw_only=True):
    """A user's role, own grants and group's grants; the latter are empty without a group."""

    role: Role
    own: Grants
    group: Grants

    @property
    def grants(self) -> Grants:
        """The combined grants."""
        return combine_grants(self.own, self.group)

    def origin(self, name: str) -> Origin | None:
        """Return which grants set a field; None if neither does."""
        if getattr(self.own, name) is not None:
            return "own"
        return None if getattr(self.group, name) is None else "group"


class Right(Struct, frozen=True, kw_only=True):
    """An effective field of `Grants`, in JSON types; None sets no limit."""

    name: str
    value: Any
    origin: Origin


class Judgement(Struct, frozen=True):
    """Whether a model or a host may be used, and the reason as text."""

    allowed: bool
    why: str


def effective_rights(person: Person, *, cloud: CloudRule, hosts: HostRule, max_wait: float) -> tuple[Right, ...]:
    """Return every field of `Grants` as effective for a person under these settings.

    `reach` applies to every host; a host's own setting adds to it. `max_wait` is the setting `queue.max_wait`, in
    seconds.
    """
    return tuple(_rights(person, cloud, hosts, max_wait))


def _rights(person: Person, cloud: CloudRule, hosts: HostRule, max_wait: float) -> Iterator[Right]:
    values, admin = grants_to_json(person.grants), person.role == "admin"
    granted = {
        name: Right(name=name, value=value, origin=person.origin(name) or "role") for name, value in values.items()
    }
    kinds = [str(kind) for kind in kinds_of(person.role) if person.grants.kinds is None or kind in person.grants.kinds]
    unset: dict[str, tuple[Any, Origin]] = {
        "models": (None, "role"),
        "hosts": (None if admin or hosts == "all" else [], "role" if admin else "setting"),
        "cloud": (
            may_use_cloud(person.role, person.grants, cloud),
            "role" if admin and cloud == "admin" else "setting",
        ),
        "reach": (None if admin else [], "role"),
        "unload": (admin, "role"),
        "kinds": (kinds, "role"),
        "max_wait": (max_wait, "setting"),
        "batch": (False, "role"),
    }
    for name in Grants.__struct_fields__:
        value, origin = unset.get(name, (None, "role"))
        right = granted.get(name) or Right(name=name, value=value, origin=origin)
        if name == "cloud" and cloud == "none":
            right = Right(name=name, value=False, origin="setting")
        elif name == "kinds":
            right = Right(name=name, value=kinds, origin=right.origin)
        yield right


def judge_model(person: Person, model: str, *, cloud: CloudRule, hosted: bool = False) -> Judgement:
    """Decide whether a person may use a model; one that is `hosted`, or has a cloud name, runs at ollama.com."""
    grants = person.grants
    at_ollama = hosted or is_cloud_name(model)
    if at_ollama and not may_use_cloud(person.role, grants, cloud):
        return Judgement(allowed=False, why=f"runs at ollama.com: {_no_cloud(person, cloud)}")
    if not may_use_model(grants, model):
        return Judgement(allowed=False, why=f"none of {_whose(person, 'models')} model patterns matches")
    if grants.models is None:
        return Judgement(allowed=True, why="no model list restricts it")
    return Judgement(allowed=True, why=f"{_whose(person, 'models')} {granted_by(grants.models, model)}")


def _no_cloud(person: Person, cloud: CloudRule) -> str:
    if cloud == "none":
        return "the setting `cloud` denies it to all users"
    return (
        "only admins may use it"
        if person.origin("cloud") is None
        else f"{_whose(person, 'cloud')} grant `cloud` forbids it"
    )


def judge_host(person: Person, host: str, *, hosts: HostRule) -> Judgement:
    """Decide whether a person may use an external host."""
    allowed = may_use_host(person.role, person.grants, hosts, host)
    if person.origin("hosts") is not None:
        return Judgement(allowed=allowed, why=f"{_whose(person, 'hosts')} list of hosts")
    if hosts == "all":
        return Judgement(allowed=allowed, why="the setting `external_hosts_for` allows it for all users")
    return Judgement(allowed=allowed, why="admins may" if allowed else "needs a grant: `external_hosts_for`")


def _whose(person: Person, name: str) -> str:
    return "the group's" if person.origin(name) == "group" else "the user's"
