"""Effective rights of a user or a group: what they allow, and which grant, role or setting is the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ollama_router_core.access.effective import Origin, Person, effective_rights, judge_host, judge_model
from ollama_router_core.access.grants import Grants
from ollama_router_core.errors import amount
from ollama_router_server.admin.response_bodies import TokenBody
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.models import model_views
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import Role, UserChange, UserSummary, changed_grants

__all__ = ["GroupRightsView", "JudgementView", "RightView", "RightsView", "group_rights_view", "rights_view"]


_MOST_NAMED: Final = 3
"""The most forbidden names listed in a sentence."""


class RightView(View):
    """One right or limit: its value as in grants, the same in words, and its origin.

    The origin is `own` or `group` for a grant, `role`, or `setting` for the config.
    """

    name: str
    value: Any
    text: str
    origin: Origin


class JudgementView(View):
    """A model or an external host: whether it is allowed, and why."""

    name: str
    allowed: bool
    why: str


class RightsView(View):
    """The rights of a user now. The group's grants count where the user has no own ones."""

    name: str
    role: Role
    active: bool
    group: str | None
    sentence: str
    rights: list[RightView]
    models: list[JudgementView]
    hosts: list[JudgementView]
    tokens: list[TokenBody]


class GroupRightsView(View):
    """The effect of a group on a member without own grants; own grants take precedence."""

    name: str
    member_count: int
    sentence: str
    rights: list[RightView]
    models: list[JudgementView]
    hosts: list[JudgementView]


async def rights_view(services: Services, name: str, change: UserChange = UserChange()) -> RightsView:  # noqa: B008 - frozen
    """Return a user's rights, with reasons, as they are or after a change, which is not made.

    Raises:
        UnknownUser: the user does not exist.
        UnknownGroup: the group does not exist.
        InvalidGrants: the resulting grants are invalid.
    """
    user = change.apply((await services.users.show(name)).summary)
    group = Grants() if user.group is None else (await services.groups.show(user.group)).grants
    person = Person(role=user.role, own=user.own_grants, group=group)
    models, hosts = list(_models(services, person)), list(_hosts(services, person))
    return RightsView.from_object(
        user,
        sentence=_sentence(user, person, models, hosts, services.clock.wall()),
        rights=list(_rights(services, person)),
        models=models,
        hosts=hosts,
        tokens=[TokenBody.from_object(one) for one in user.tokens],
    )


async def group_rights_view(services: Services, name: str, changes: Mapping[str, Any] | None = None) -> GroupRightsView:
    """Return a group's effect on a member without own grants, as it is or after changes, which are not made.

    Raises:
        UnknownGroup: the group does not exist.
        InvalidGrants: the resulting grants are invalid.
    """
    group = await services.groups.show(name)
    person = Person(role="user", own=Grants(), group=changed_grants(group.grants, changes or {}))
    models, hosts = list(_models(services, person)), list(_hosts(services, person))
    return GroupRightsView(
        name=group.name,
        member_count=len(group.members),
        sentence=_group_sentence(group.name, person.group, models, hosts, services.clock.wall()),
        rights=list(_rights(services, person)),
        models=models,
        hosts=hosts,
    )


def _rights(services: Services, person: Person) -> Iterator[RightView]:
    config = services.config
    for one in effective_rights(
        person, cloud=config.cloud, hosts=config.external_hosts_for, max_wait=config.queue.max_wait
    ):
        yield RightView.from_object(one, text=_text(one.name, one.value))


def _models(services: Services, person: Person) -> Iterator[JudgementView]:
    for model in model_views(services, None).models:
        found = judge_model(person, model.name, cloud=services.config.cloud, hosted=model.hosted)
        yield JudgementView.from_object(found, name=model.name)


def _hosts(services: Services, person: Person) -> Iterator[JudgementView]:
    for name in services.config.external_hosts:
        found = judge_host(person, name, hosts=services.config.external_hosts_for)
        yield JudgementView.from_object(found, name=name)


def _sentence(
    user: UserSummary, person: Person, models: list[JudgementView], hosts: list[JudgementView], now: float
) -> str:
    grants = person.grants
    if not user.active:
        return f"{user.name} is deactivated: no request is answered."
    if grants.expires_at is not None and now >= grants.expires_at:
        return f"{user.name}'s access has expired: no request is answered."
    if user.role == "viewer":
        return f"{user.name} may read lists, metrics and the console, and use no model."
    without = "" if user.tokens else "; there is no token yet to do so with"
    return f"{user.name} may use {_shares(models, hosts)}{without}."


def _group_sentence(
    name: str, grants: Grants, models: list[JudgementView], hosts: list[JudgementView], now: float
) -> str:
    if grants.expires_at is not None and now >= grants.expires_at:
        return f"{name}'s access has expired: no request of a user in it is answered, unless their own says otherwise."
    return f"A user in {name} may use {_shares(models, hosts)}."


def _shares(models: list[JudgementView], hosts: list[JudgementView]) -> str:
    may = " and ".join([_share(models, "model")] + ([_share(hosts, "external host")] if hosts else []))
    return f"{may}{_left_out([one.name for one in (*models, *hosts) if not one.allowed])}"


def _left_out(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return f"; not: {', '.join(names[:_MOST_NAMED])}{more}" if names else ""


def _share(found: list[JudgementView], noun: str) -> str:
    return f"{sum(one.allowed for one in found):,} of {amount(len(found), noun)}"


def _text(name: str, value: Any) -> str:
    """Format a value in words."""
    if value is None:
        return _WITHOUT.get(name, "no limit")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return _TEXTS.get(name, "{:,}".format)(value)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")


_WITHOUT = {
    "models": "all",
    "hosts": "all",
    "reach": "everything",
    "networks": "from anywhere",
    "expires_at": "never",
    "speaks_for": "nobody",
}
_TEXTS: dict[str, Callable[[Any], str]] = {"expires_at": _day, "max_wait": "{:g} s".format, "speaks_for": str}
