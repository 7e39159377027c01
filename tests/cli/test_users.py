"""`orouter users`: what the operators of the replaced application are used to, and JSON."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.access.tokens import TOKEN_LENGTH, check_format


@pytest.fixture
def alice(cli):
    """A user; gives the token."""
    return cli("users", "create", "alice", "--json").json()["token"]


def test_create_prints_the_token_and_a_curl_to_try(cli):
    """The token stands there once to be copied, and in a command that can be pasted."""
    result = cli("users", "create", "alice")
    token = result.out.partition("token: ")[2][:TOKEN_LENGTH]
    assert result.code == 0
    assert check_format(token)
    assert f'-H "Authorization: Bearer {token}"' in result.out


def test_create_json_has_name_token_and_role(cli):
    """The nouns that other programs rely on."""
    created = cli("users", "create", "ops", "--role", "admin", "--json").json()
    assert {"name": "ops", "role": "admin"}.items() <= created.items()
    assert check_format(created["token"])


def test_create_takes_the_grants_of_set(cli):
    """A user need not exist for a moment without limits."""
    cli("users", "create", "bob", "--models", "llama3*", "--rpm", "60", "--hosts", "none", "--expires", "30d")
    grants = cli("users", "list", "--json").json()[0]["grants"]
    assert grants.pop("expires_at") > 0
    assert grants == {"models": ["llama3*"], "requests_per_minute": 60, "hosts": []}
    refused = cli("users", "create", "carol", "--networks", "nowhere")
    assert (refused.code, [user["name"] for user in cli("users", "list", "--json").json()]) == (1, ["bob"])


def test_a_name_is_given_once(cli, alice):
    """A second user of the same name is refused."""
    result = cli("users", "create", "alice")
    assert (result.code, result.out) == (1, "")
    assert "alice" in result.err


def test_list_shows_status_requests_and_the_first_eight_characters(cli, alice):
    """Enough of the token to recognise it, never the token."""
    result = cli("users", "list")
    assert alice[:8] in result.out
    assert alice not in result.out
    columns = result.out.splitlines()[1].split()
    assert columns[:4] == ["alice", "user", "active", "0"]


def test_list_tells_what_was_used_of_late(cli):
    """Requests of seven days, tokens of the limit that is nearest to its end, the last use, the end of the access."""
    cli("users", "create", "bob", "--tokens-per-day", "100", "--tokens-per-month", "5000", "--expires", "30d")
    cli("users", "create", "carol")
    bob, carol = cli("users", "list", "--json").json()
    assert (bob["requests_7d"], bob["tokens_used"], bob["tokens_limit"], bob["tokens_per"]) == (0, 0, 100, "day")
    assert bob["expires_at"] == bob["grants"]["expires_at"]
    assert [carol[name] for name in ("tokens_limit", "tokens_per", "last_seen", "expires_at")] == [None] * 4
    table = cli("users", "list").out
    assert "0 of 100 a day" in table
    assert [
        name for name in ("7 days", "tokens of limit", "last used", "expires") if name in table.splitlines()[0]
    ] == ["7 days", "tokens of limit", "last used", "expires"]


def test_list_without_users_says_what_to_do(cli):
    """An empty list is no error; JSON stays a list."""
    result = cli("users", "list")
    assert (result.code, result.out) == (0, "")
    assert "orouter users create" in result.err
    assert cli("users", "list", "--json").json() == []


def test_no_listing_holds_a_token_or_its_digest(cli, alice):
    """Also not in JSON."""
    for arguments in (("users", "list", "--json"), ("users", "show", "alice", "--json"), ("users", "show", "alice")):
        output = cli(*arguments).out
        assert alice not in output
        assert "$2b$" not in output


def test_deactivate_and_activate(cli, alice):
    """Status follows, in text and JSON."""
    assert cli("users", "deactivate", "alice").out == "alice is inactive\n"
    assert [user["active"] for user in cli("users", "list", "--json").json()] == [False]
    assert cli("users", "activate", "alice", "--json").json() == {"name": "alice", "active": True}
    assert "active" in cli("users", "show", "alice").out


def test_regenerate_token_gives_another_one(cli, alice):
    """The new token is shown once, the old one's start is gone from the list."""
    fresh = cli("users", "regenerate-token", "alice", "--json").json()["token"]
    assert fresh != alice
    lookups = [token["lookup"] for token in cli("users", "list", "--json").json()[0]["tokens"]]
    assert lookups == [fresh[:8]]


@pytest.mark.parametrize("command", ["show", "activate", "deactivate", "regenerate-token", "delete"])
def test_an_unknown_user_is_answered_with_the_known_names(cli, alice, command):
    """A message, the names there are, exit code 1."""
    result = cli("users", command, "alcie")
    assert (result.code, result.out) == (1, "")
    assert "alcie" in result.err
    assert "alice" in result.err


@pytest.mark.parametrize(("typed", "gone"), [("DELETE\n", True), ("delete\n", False), ("yes\n", False), ("", False)])
def test_delete_wants_the_word_typed(cli, alice, typed, gone):
    """Nothing but DELETE deletes."""
    result = cli("users", "delete", "alice", stdin=typed)
    assert (result.code == 0) is gone
    assert "DELETE" in result.err
    assert (cli("users", "list", "--json").json() == []) is gone


def test_delete_with_yes_does_not_ask(cli, alice):
    """For scripts."""
    assert cli("users", "delete", "alice", "--yes", "--json").json() == {
        "name": "alice",
        "deleted": True,
        "log_rows": 0,
    }


def test_a_name_cannot_move_the_terminals_cursor(cli):
    """Names with control characters are refused, and what is refused is not echoed raw."""
    result = cli("users", "create", "\x1b[2Jeve")
    assert result.code == 1
    assert "\x1b" not in result.out + result.err


def test_an_unknown_role_is_wrong_usage(cli):
    """The roles there are stand in the message."""
    result = cli("users", "create", "alice", "--role", "root")
    assert result.code == 2
    assert "admin" in result.err


def test_a_database_that_cannot_be_opened_is_one_text(cli, monkeypatch):
    """The path and the reason, no traceback."""
    monkeypatch.setenv("OROUTER_DATABASE_URL", "sqlite:////proc/nowhere/router.sqlite3")
    result = cli("users", "list")
    assert result.code == 1
    assert "/proc/nowhere" in result.err
    assert "Traceback" not in result.err


def test_json_is_ascii(cli):
    """No terminal's encoding can break what a program reads."""
    created = cli("users", "create", "zoë", "--json")
    assert created.out.isascii()
    assert json.loads(created.out)["name"] == "zoë"


def test_a_link_invites_somebody_who_need_not_exist_yet(cli, write_config):
    """Created without a token; a second link creates nobody; where there is no console there is no link."""
    made = cli("users", "invite", "carol", "--role", "viewer", "--json").json()
    assert (made["user"], made["created"], made["seconds"]) == ("carol", True, 72 * 3600)
    assert "/console/#claim=" in made["link"]
    (carol,) = cli("users", "list", "--json").json()
    assert (carol["role"], carol["tokens"]) == ("viewer", [])
    assert cli("users", "invite", "carol", "--json").json()["created"] is False
    config = write_config("servers: {one: {host: gpu1}}\nconsole: {enabled: false}\n")
    assert cli("users", "invite", "dora", "--config", str(config)).code == 1
    assert [user["name"] for user in cli("users", "list", "--json").json()] == ["carol"]


def test_users_are_listed_by_pages(cli):
    """Where the next one begins is said beside the results."""
    for name in ("alice", "albert", "bob"):
        cli("users", "create", name)
    first = cli("users", "list", "--limit", "2", "--json")
    assert [user["name"] for user in first.json()] == ["albert", "alice"]
    assert "3 users in all; --after alice shows the next page" in first.err
    assert [user["name"] for user in cli("users", "list", "--after", "alice", "--json").json()] == ["bob"]
    assert [user["name"] for user in cli("users", "list", "--search", "AL", "--json").json()] == ["albert", "alice"]
    assert "no such users" in cli("users", "list", "--search", "carol").err
