"""`orouter users set`, `orouter users tokens`, `orouter groups`: what an operator types and what then holds."""

from __future__ import annotations

import re
import time

import pytest

from ollama_router_core.access.tokens import check_format


@pytest.fixture
def alice(cli):
    """A user; gives the token."""
    return cli("users", "create", "alice", "--json").json()["token"]


def test_every_grant_can_be_set_and_is_shown(cli, alice):
    """In JSON with the names of the fields, in text for people."""
    cli("groups", "create", "team")
    changed = cli(
        "users", "set", "alice", "--role", "viewer", "--group", "team", "--models", "llama3*,qwen3:8b",
        "--models", "gpt-*", "--hosts", "none", "--cloud", "no", "--kinds", "infer,read", "--networks", "10.1.0.0/16",
        "--expires", "2030-01-01T00:00+00:00", "--rpm", "60", "--concurrent", "4", "--tpm", "9000",
        "--tokens-per-day", "1_000_000", "--tokens-per-month", "20000000", "--json",
    ).json()  # fmt: skip
    assert changed == {
        "name": "alice",
        "role": "viewer",
        "group": "team",
        "grants": {
            "models": ["llama3*", "qwen3:8b", "gpt-*"],
            "hosts": [],
            "cloud": False,
            "kinds": ["infer", "read"],
            "networks": ["10.1.0.0/16"],
            "expires_at": 1893456000.0,
            "requests_per_minute": 60,
            "concurrent_requests": 4,
            "tokens_per_minute": 9_000,
            "tokens_per_day": 1_000_000,
            "tokens_per_month": 20_000_000,
        },
    }
    shown = cli("users", "show", "alice").out
    for text in ("team", "llama3*, qwen3:8b, gpt-*", "10.1.0.0/16", "1,000,000", "concurrent requests"):
        assert text in shown
    assert cli("users", "show", "alice", "--json").json()["grants"] == changed["grants"]


def test_inherit_takes_a_point_back_and_any_opens_it(cli, alice):
    """One point at a time; the others stay."""
    cli("users", "set", "alice", "--models", "a", "--rpm", "1", "--networks", "none")
    after = cli("users", "set", "alice", "--models", "inherit", "--networks", "any", "--json").json()
    assert after["grants"] == {"requests_per_minute": 1, "networks": ["0.0.0.0/0", "::/0"]}
    assert cli("users", "set", "alice", "--rpm", "inherit", "--json").json()["grants"].keys() == {"networks"}


def test_what_cannot_be_meant_changes_nothing(cli, alice):
    """One text that names what was typed: wrong usage where it can be told without looking, else a failure."""
    before = cli("users", "show", "alice", "--json").json()
    for options, code, word in [
        ((), 2, "nothing to change"),
        (("--rpm", "many"), 2, "many"),
        (("--cloud", "maybe"), 2, "maybe"),
        (("--models", "any,llama*"), 2, "combined"),
        (("--networks", "10.0.0.0/99"), 1, "10.0.0.0/99"),
        (("--kinds", "everything"), 1, "infer"),
        (("--group", "nobody"), 1, "nobody"),
        (("--expires", "someday"), 2, "someday"),
    ]:
        result = cli("users", "set", "alice", *options)
        assert (result.code, result.out) == (code, ""), options
        assert word in result.err
    assert cli("users", "show", "alice", "--json").json() == before


def test_access_ends_so_long_from_now(cli, alice):
    """`--expires 30d` lies ahead: as a time that has passed it would lock the user out at once."""
    grants = cli("users", "set", "alice", "--expires", "30d", "--json").json()["grants"]
    assert 0 < grants["expires_at"] - time.time() - 30 * 86_400 + 60 < 120


def test_several_named_tokens(cli, alice):
    """Each can end alone."""
    laptop = cli("users", "tokens", "add", "alice", "laptop", "--json").json()["token"]
    assert check_format(laptop)
    listed = cli("users", "tokens", "list", "alice", "--json").json()
    assert [(token["name"], token["lookup"]) for token in listed] == [("default", alice[:8]), ("laptop", laptop[:8])]
    assert "laptop" in cli("users", "tokens", "list", "alice").out
    assert cli("users", "tokens", "add", "alice", "laptop").code == 1
    assert cli("users", "tokens", "revoke", "alice", "laptop").code == 0
    result = cli("users", "tokens", "revoke", "alice", "laptop")
    assert (result.code, "default" in result.err) == (1, True)
    assert [token["name"] for token in cli("users", "tokens", "list", "alice", "--json").json()] == ["default"]


def test_a_token_for_work_that_can_wait(cli, alice):
    """It is made with a word, and the list tells it from others."""
    assert cli("users", "tokens", "add", "alice", "nightly", "--batch").code == 0
    listed = cli("users", "tokens", "list", "alice", "--json").json()
    assert [(token["name"], token["batch"]) for token in listed] == [("default", False), ("nightly", True)]
    assert "batch" in cli("users", "tokens", "list", "alice").out


def test_groups_from_their_making_to_their_end(cli, alice):
    """Create, list, show, set, delete; one with members stays."""
    made = cli("groups", "create", "team", "--models", "llama*", "--rpm", "5", "--json").json()
    assert made["grants"] == {"models": ["llama*"], "requests_per_minute": 5}
    cli("users", "set", "alice", "--group", "team")
    assert cli("groups", "show", "team", "--json").json()["members"] == ["alice"]
    cli("groups", "set", "team", "--rpm", "inherit")
    cli("groups", "create", "staff")
    listed = cli("groups", "list", "--limit", "1", "--after", "staff")
    assert re.search(r"^team +1 +0 +0 +models: llama\*$", listed.out, re.MULTILINE)
    assert "staff" not in listed.out
    assert "2 groups in all; --after staff" in cli("groups", "list", "--limit", "1").err
    assert cli("groups", "list", "--search", "EA", "--json").json()[0]["member_count"] == 1
    assert cli("groups", "delete", "staff").code == 0
    assert [user["name"] for user in cli("users", "list", "--group", "team", "--json").json()] == ["alice"]
    assert "no such users" in cli("users", "list", "--group", "nobody").err
    refused = cli("groups", "delete", "team")
    assert (refused.code, "members" in refused.err) == (1, True)
    cli("users", "set", "alice", "--group", "none")
    assert cli("groups", "delete", "team", "--json").json() == {"name": "team", "deleted": True}
    assert cli("groups", "list", "--json").json() == []


def test_a_user_can_be_made_in_a_group(cli):
    """And not in one that is not there."""
    cli("groups", "create", "team")
    assert cli("users", "create", "bob", "--group", "team").code == 0
    assert cli("users", "create", "eve", "--group", "staff").code == 1
    assert [user["name"] for user in cli("users", "list", "--json").json()] == ["bob"]


@pytest.mark.parametrize(
    ("typed", "more", "code", "left"),
    [("REVOKE\n", (), 0, 1), ("yes\n", (), 1, 2), ("", (), 1, 2), ("", ("--yes",), 0, 1)],
)
def test_on_a_terminal_a_token_is_not_ended_without_a_word(cli, typed, more, code, left):
    """Whoever types it means it; scripts are not asked."""
    cli("users", "create", "alice")
    cli("users", "tokens", "add", "alice", "laptop")
    result = cli("users", "tokens", "revoke", "alice", "laptop", *more, stdin=typed, terminal=True)
    assert result.code == code
    assert ("REVOKE" in result.err) is (more == ())
    assert len(cli("users", "tokens", "list", "alice", "--json").json()) == left
