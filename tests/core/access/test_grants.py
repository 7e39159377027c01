"""What users and groups may do: models, hosts, kinds of route, networks, time."""

from __future__ import annotations

import pytest

from ollama_router_core.access.grants import (
    CloudRule,
    Grants,
    InvalidGrants,
    check_cloud,
    check_endpoint,
    check_expiry,
    check_host,
    check_model,
    check_network,
    grants_from_json,
    grants_to_json,
    may_use_cloud,
    may_use_model,
)
from ollama_router_core.api.endpoints import ENDPOINTS, Endpoint, Kind
from ollama_router_core.errors import Forbidden

BY_NAME: dict[str, Endpoint] = {endpoint.name: endpoint for endpoint in ENDPOINTS}


@pytest.mark.parametrize(
    ("pattern", "model", "allowed"),
    [
        ("llama3.1", "llama3.1", True),
        ("llama3.1", "llama3.1:latest", True),
        ("llama3.1", "llama3.1:8b", False),
        ("llama3.1:*", "LLAMA3.1:8B", True),
        ("llama*", "registry.ollama.ai/library/llama3.1:8b", True),
        ("registry.ollama.ai/library/llama*", "llama3.1:8b", True),
        ("llama*", "evil/llama3.1:8b", False),
        ("acme/*", "acme/secret:7b", True),
        ("*:8b", "llama3.1:8b", True),
        ("gpt-4o", "GPT-4o", True),
        ("llama3.?:8b", "llama3.2:8b", True),
        ("*", "anything at all", True),
    ],
)
def test_patterns_are_compared_as_ollama_reads_names(pattern: str, model: str, allowed: bool) -> None:
    """Case, the missing tag and the written-out registry cannot be used to slip through, nor get in the way."""
    assert may_use_model(Grants(models=(pattern,)), model) is allowed


def test_what_is_not_said_is_open_and_an_empty_list_is_shut() -> None:
    """A new user may use every model; a list without entries allows none."""
    check_model(Grants(), "llama3.1:8b")
    with pytest.raises(Forbidden):
        check_model(Grants(models=()), "llama3.1:8b")


@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "gpt-oss:120b:cloud", "qwen3:cloud"])
def test_cloud_models_can_be_forbidden_whatever_else_is_granted(model: str) -> None:
    """They cost money: `cloud` False beats every pattern."""
    assert may_use_model(Grants(models=("*",)), model)
    with pytest.raises(Forbidden, match="cloud"):
        check_model(Grants(models=("*",), cloud=False), model)
    check_model(Grants(cloud=False), "gpt-oss:120b")


def test_external_hosts_are_granted_by_name() -> None:
    """With patterns, or none at all."""
    check_host("user", Grants(), "all", "openai")
    check_host("user", Grants(hosts=("open*",)), "granted", "openai")
    with pytest.raises(Forbidden, match="anthropic"):
        check_host("admin", Grants(hosts=("open*",)), "all", "anthropic")
    with pytest.raises(Forbidden):
        check_host("user", Grants(hosts=()), "all", "openai")


def test_where_hosts_have_to_be_granted_admins_have_them() -> None:
    """A new user spends nothing until an admin says so."""
    check_host("admin", Grants(), "granted", "openai")
    with pytest.raises(Forbidden, match="openai"):
        check_host("user", Grants(), "granted", "openai")


def test_kinds_of_route_narrow_the_role_and_never_widen_it() -> None:
    """`manage` stays an admin's, whatever was granted."""
    check_endpoint("user", BY_NAME["chat"], Grants(kinds=(Kind.INFER,)))
    with pytest.raises(Forbidden, match="read"):
        check_endpoint("user", BY_NAME["tags"], Grants(kinds=(Kind.INFER,)))
    with pytest.raises(Forbidden, match="role"):
        check_endpoint("viewer", BY_NAME["chat"], Grants(kinds=tuple(Kind)))


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.0.0.1", False),
        ("fd00::7", True),
        ("fe80::1%eth0", False),
        ("not an address", False),
        (None, False),
    ],
)
def test_clients_come_from_granted_networks(address: str | None, allowed: bool) -> None:
    """Also IPv4 clients of a socket for both families; an address that is not known is outside."""
    grants = grants_from_json({"networks": ["10.0.0.0/8", "fd00::/8"]})
    check_network(Grants(), address)
    if allowed:
        check_network(grants, address)
    else:
        with pytest.raises(Forbidden):
            check_network(grants, address)


def test_access_ends_at_its_moment() -> None:
    """Not a second later."""
    check_expiry(Grants(expires_at=100.0), 99.9)
    check_expiry(Grants(), 1e12)
    with pytest.raises(Forbidden, match="expired"):
        check_expiry(Grants(expires_at=100.0), 100.0)


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"model": ["x"]},
        {"models": "x"},
        {"models": [1]},
        {"models": [""]},
        {"models": ["a b"]},
        {"models": ["x"] * 201},
        {"cloud": 1},
        {"kinds": ["anything"]},
        {"networks": ["10.0.0.0/40"]},
        {"networks": ["example.org"]},
        {"expires_at": "tomorrow"},
        {"expires_at": float("nan")},
        {"expires_at": float("inf")},
        {"requests_per_minute": -1},
        {"requests_per_minute": True},
        {"tokens_per_day": 1.5},
        {"tokens_per_month": 2**60},
    ],
)
def test_grants_that_cannot_be_meant_are_refused(values: object) -> None:
    """A typo must not become an open door."""
    with pytest.raises(InvalidGrants):
        grants_from_json(values)


def test_null_says_nothing() -> None:
    """As a field that is not there."""
    assert grants_from_json({"models": None, "cloud": None}) == Grants()
    assert grants_to_json(Grants()) == {}


@pytest.mark.parametrize(
    ("rule", "granted", "admin", "user"),
    [
        ("none", None, False, False),
        ("none", True, False, False),
        ("admin", None, True, False),
        ("admin", True, True, True),
        ("admin", False, False, False),
        ("all", None, True, True),
        ("all", False, False, False),
    ],
)
def test_hosted_models_need_a_permission_of_their_own(
    rule: CloudRule, granted: bool | None, admin: bool, user: bool
) -> None:
    """A setting says who may; grants say otherwise for one user, but where nobody may no grant helps."""
    grants = Grants(cloud=granted)
    assert may_use_cloud("admin", grants, rule) is admin
    assert may_use_cloud("user", grants, rule) is user
    if not user:
        with pytest.raises(Forbidden, match=r"ollama\.com"):
            check_cloud("user", grants, rule, "x:cloud")
