"""What somebody may do in the end: the same as the checks of a request say, with whose word it is."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.access.effective import Person, Right, effective_rights, judge_host, judge_model
from ollama_router_core.access.grants import (
    CloudRule,
    Grants,
    HostRule,
    Role,
    may_use_cloud,
    may_use_host,
    may_use_model,
)
from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.model_names import is_cloud_name

NAMES = ("llama3.2:3b", "qwen3:8b", "gpt-oss:120b-cloud", "library/secret")
LISTS = st.none() | st.lists(st.sampled_from(["llama3*", "qwen3:8b", "*", "secret*"]), max_size=2).map(tuple)
GRANTS = st.builds(
    Grants, models=LISTS, hosts=st.none() | st.just(()) | st.just(("open*",)), cloud=st.none() | st.booleans()
)
ROLES, CLOUD, HOSTS = (st.sampled_from(get_args(kind)) for kind in (Role, CloudRule, HostRule))


def rights(person: Person, **settings: Any) -> dict[str, Right]:
    """By name, under the settings of a new config."""
    chosen: dict[str, Any] = {"cloud": "admin", "hosts": "granted", "max_wait": 600.0, **settings}
    return {right.name: right for right in effective_rights(person, **chosen)}


def user(own: Grants | None = None, group: Grants | None = None, role: Role = "user") -> Person:
    """Somebody."""
    return Person(role=role, own=own or Grants(), group=group or Grants())


@given(role=ROLES, own=GRANTS, group=GRANTS, cloud=CLOUD, hosts=HOSTS, name=st.sampled_from(NAMES))
def test_judgements_are_those_of_requests(
    role: Role, own: Grants, group: Grants, cloud: CloudRule, hosts: HostRule, name: str
) -> None:
    """For every role, grants and setting; none is without a reason."""
    person = Person(role=role, own=own, group=group)
    may = may_use_model(person.grants, name)
    if is_cloud_name(name):
        may = may and may_use_cloud(role, person.grants, cloud)
    found = judge_model(person, name, cloud=cloud)
    assert (found.allowed, bool(found.why)) == (may, True)
    host = judge_host(person, "openai", hosts=hosts)
    assert host.allowed == may_use_host(role, person.grants, hosts, "openai")
    assert rights(person, cloud=cloud)["cloud"].value == may_use_cloud(role, person.grants, cloud)


def test_each_right_stands_once_with_whose_word_it_is() -> None:
    """An own grant before the group's, that before role and settings."""
    person = user(
        Grants(models=("llama3*",), requests_per_minute=60), Grants(models=("*",), tokens_per_day=1000, batch=True)
    )
    found = rights(person)
    assert list(found) == list(Grants.__struct_fields__)
    assert found["models"] == Right(name="models", value=["llama3*"], origin="own")
    assert found["tokens_per_day"] == Right(name="tokens_per_day", value=1000, origin="group")
    assert found["batch"] == Right(name="batch", value=True, origin="group")
    assert found["tokens_per_month"] == Right(name="tokens_per_month", value=None, origin="role")
    assert found["max_wait"] == Right(name="max_wait", value=600.0, origin="setting")
    assert found["hosts"] == Right(name="hosts", value=[], origin="setting")


@pytest.mark.parametrize(
    ("person", "name", "value", "origin"),
    [
        (user(role="admin"), "kinds", ["infer", "read", "manage", "account"], "role"),
        (user(role="viewer"), "kinds", ["read"], "role"),
        (user(Grants(kinds=(Kind.READ, Kind.MANAGE))), "kinds", ["read"], "own"),
        (user(role="admin"), "hosts", None, "role"),
        (user(role="admin"), "reach", None, "role"),
        (user(), "reach", [], "role"),
        (user(role="admin"), "cloud", True, "role"),
        (user(Grants(cloud=True)), "cloud", True, "own"),
    ],
)
def test_what_the_role_says(person: Person, name: str, value: object, origin: str) -> None:
    """Kinds are those of the role, whatever a grant adds; admins are open to all that costs money."""
    assert rights(person)[name] == Right(name=name, value=value, origin=origin)  # type: ignore[arg-type]


def test_no_grant_opens_what_a_setting_closes_to_all() -> None:
    """The cloud with the setting `none`."""
    found = rights(user(Grants(cloud=True)), cloud="none")["cloud"]
    assert found == Right(name="cloud", value=False, origin="setting")


@pytest.mark.parametrize(
    ("person", "model", "why"),
    [
        (user(), "llama3.2:3b", "no model list restricts it"),
        (user(Grants(models=("qwen*", "llama3*"))), "llama3.2:3b", "the user's llama3*"),
        (user(group=Grants(models=("llama3*",))), "llama3.2:3b", "the group's llama3*"),
        (user(group=Grants(models=("qwen*",))), "llama3.2:3b", "none of the group's model patterns matches"),
        (user(), "gpt-oss:120b-cloud", "runs at ollama.com: only admins may use it"),
        (user(Grants(cloud=False)), "gpt-oss:120b-cloud", "runs at ollama.com: the user's grant `cloud` forbids it"),
    ],
)
def test_reasons_name_what_decides(person: Person, model: str, why: str) -> None:
    """So that an admin knows what to change."""
    assert judge_model(person, model, cloud="admin").why == why
