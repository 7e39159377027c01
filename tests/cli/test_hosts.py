"""`orouter hosts`: what is known of external hosts, and where it stands."""

from __future__ import annotations

import yaml

CONFIG = """\
external_hosts:
  paid: {host: api.openai.com}
  local:
    host: 192.168.1.30
    port: 8000
    protocol: http
    profile: {base: vllm, without: [efforts], lines: {mine: {drop: [seed], models: ["qwen*"]}}}
"""


def test_hosts_are_listed_with_their_profiles(cli, write_config):
    """What was guessed is told from what was written."""
    write_config(CONFIG)
    paid, local = cli("hosts", "list", "--json").json()
    assert (paid["host"], paid["profile"], paid["guessed"]) == ("paid", "openai", True)
    assert (local["profile"], local["guessed"], local["address"]) == ("vllm", False, "http://192.168.1.30:8000")
    assert "openai (guessed)" in cli("hosts", "list").out


def test_a_profile_is_printed_as_it_is_in_effect(cli, write_config):
    """Shipped lines without those taken out, the config's own, each with where it stands."""
    write_config(CONFIG)
    found = cli("hosts", "profile", "local", "--json").json()
    defined_in = {line["name"]: line["defined_in"] for line in found["lines"]}
    assert defined_in["mine"] == "external_hosts.local.profile.lines.mine"
    assert defined_in["conversation"] == "vllm"
    assert "efforts" not in defined_in
    text = cli("hosts", "profile", "local").out
    assert "mine: qwen*\n  left out: seed\n  from external_hosts.local.profile.lines.mine" in text


def test_a_profile_says_from_which_page_it_is(cli, write_config):
    """And when that was read; `--model` leaves what is about others."""
    write_config(CONFIG)
    text = cli("hosts", "profile", "paid", "--model", "gpt-5.6").out
    assert "tools_of_gpt_5_6" in text
    assert "https://github.com/onyx-dot-app/onyx/issues/15008, read 2026-11-29" in text
    assert "limit_of_gpt_4o" not in text


def test_a_host_that_is_not_there(cli, write_config):
    """The known ones are named."""
    write_config(CONFIG)
    result = cli("hosts", "profile", "piad")
    assert result.code == 1
    assert "known: paid, local" in result.err


def test_config_check_warns_of_a_line_that_is_not_there(cli, write_config):
    """A name in `without` that the profile does not have takes nothing out."""
    write_config("external_hosts: {paid: {host: api.openai.com, profile: {without: [tools_of_gpt_5_6, no_such]}}}\n")
    result = cli("config", "check")
    assert result.code == 0
    assert "its profile openai has no line no_such, which `without` names" in result.err


def test_config_show_names_what_was_guessed(cli, write_config):
    """In a comment and in the settings, so that what is printed is what is in effect."""
    write_config(CONFIG)
    out = cli("config", "show").out
    assert "# external_hosts.paid.profile: openai, guessed from the address" in out
    assert yaml.safe_load(out)["external_hosts"]["paid"]["profile"]["base"] == "openai"
