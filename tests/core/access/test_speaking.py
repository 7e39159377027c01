"""Whom a client that speaks for many names, and what that person may do."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.access.grants import Grants, InvalidGrants, grants_from_json, grants_to_json
from ollama_router_core.access.speaking import named_in_body, named_in_fields, spoken_grants, spoken_role


@pytest.mark.parametrize(
    ("fields", "person"),
    [
        ({"x-openwebui-user-email": "ann@example.org", "x-openwebui-user-name": "Ann"}, "ann@example.org"),
        ({"x-openwebui-user-name": "Ann%20M%C3%BCller"}, "Ann Müller"),
        ({"x-openwebui-user-id": "3f2a", "x-openwebui-user-name": "Ann"}, "3f2a"),
        ({"x-openwebui-user-email": " ", "x-litellm-end-user-id": "e7"}, "e7"),
        ({"x-librechat-user-email": "ann@example.org"}, "ann@example.org"),
        ({"x-openwebui-user-role": "admin", "x-user": "ann"}, None),
        ({}, None),
    ],
)
def test_fields_of_known_clients_name_a_person(fields: dict[str, str], person: str | None) -> None:
    """An address says more than an id, and an id more than a name."""
    assert named_in_fields([(name.encode(), value.encode()) for name, value in fields.items()]) == person


def test_the_operator_s_field_wins() -> None:
    """Whatever else the client sends."""
    fields = [(b"x-openwebui-user-email", b"a@example.org"), (b"x-remote-user", b"ann")]
    assert named_in_fields(fields, "X-Remote-User") == "ann"
    assert named_in_fields(fields[:1], "X-Remote-User") == "a@example.org"


CLAUDE_CODE = "user_" + "0a" * 32


@pytest.mark.parametrize(
    ("members", "person"),
    [
        ({"user": "ann"}, "ann"),
        ({"safety_identifier": "5d41"}, "5d41"),
        ({"user": " ", "safety_identifier": "5d41"}, "5d41"),
        ({"metadata": {"user_id": "ann"}}, "ann"),
        (
            {"metadata": {"user_id": f"{CLAUDE_CODE}_account__session_1b4e28ba-2fa1-11d2-883f-0016d3cca427"}},
            CLAUDE_CODE,
        ),
        ({"metadata": {"user_id": json.dumps({"device_id": "d1", "account_uuid": "", "session_id": "s"})}}, "d1"),
        ({"metadata": {"user_id": "{not json"}}, "{not json"),
        ({"user": '{"a":' + "[" * 2000}, '{"a":' + "[" * 995),
        ({"metadata": {"topic": "x"}, "user": 7}, None),
        ({"metadata": "x"}, None),
    ],
)
def test_members_of_a_body_name_a_person(members: dict[str, object], person: str | None) -> None:
    """What changes with each session is no part of a name."""
    assert named_in_body(members) == person


def test_nobody_is_spoken_for_as_an_administrator() -> None:
    """Neither the client's role nor the person's makes one."""
    assert spoken_role("admin", "admin") == spoken_role("user", "admin") == spoken_role("admin", "user") == "user"
    assert spoken_role("viewer", "admin") == spoken_role("admin", "viewer") == "viewer"


def test_a_person_has_grants_of_their_own_and_else_the_client_s() -> None:
    """The address is the client's, and whoever is spoken for speaks for nobody."""
    speaker = Grants(models=("llama*",), networks=("10.0.0.0/8",), expires_at=9.0, speaks_for="any", tokens_per_day=7)
    person = Grants(models=("qwen*",), networks=("192.168.0.0/16",), speaks_for="group")
    assert spoken_grants(speaker, person) == Grants(models=("qwen*",), tokens_per_day=7)
    assert spoken_grants(speaker, Grants()) == Grants(models=("llama*",), tokens_per_day=7)


def test_a_batch_client_speaks_for_nobody_who_goes_first() -> None:
    """Its priority holds whatever the person is granted; else the person's own does."""
    assert spoken_grants(Grants(batch=True), Grants(batch=False)).batch
    assert spoken_grants(Grants(), Grants(batch=True)).batch
    assert not spoken_grants(Grants(batch=False), Grants()).batch


def test_the_grant_is_one_of_two_words() -> None:
    """It is stored as the others are."""
    assert grants_from_json(grants_to_json(Grants(speaks_for="group"))) == Grants(speaks_for="group")
    with pytest.raises(InvalidGrants, match="any or group"):
        grants_from_json({"speaks_for": "all"})
