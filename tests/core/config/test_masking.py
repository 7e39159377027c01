"""Texts of configs that are kept hold no secret, and get it back from the file of now."""

from __future__ import annotations

import pytest

from ollama_router_core.config import fill_secrets, load_config, mask_secrets, redacted
from ollama_router_core.errors import ConfigError

TEXT = """\
# office; the old one was postgresql://router:hunter1@old/router, Authorization: Bearer hunter0-hunter0
# cache was redis://old/0?password=hunter1&db=2
default: &default
  database_url: &db postgresql://router:hunter2@db/router   # keep
  coordination: {url: 'redis://orouter:hunter3@redis/0', fleet: office}
production:
  <<: *default
  servers:
    a: {host: gpu1, headers: {x-key: hunter4, x-team: "${TEAM}"}}
  external_hosts:
    paid:
      host: api.example
      headers:
        x-key: |-
          hunter5
      api_key_env: KEY
"""


def test_no_secret_is_left_and_the_rest_is_as_it_was():
    """In every environment, in comments too; references, anchors, comments and order stay."""
    masked = mask_secrets(TEXT)
    assert "hunter" not in masked
    assert 'database_url: &db "postgresql://router:***@db/router"   # keep\n' in masked
    assert 'x-team: "${TEAM}"' in masked
    assert masked.count("\n") == TEXT.count("\n") - 1, "the block is a line now"
    assert mask_secrets(masked) == masked


def test_secrets_come_back_from_the_file_of_now():
    """Wherever they stand there; what the version says otherwise is kept."""
    version = mask_secrets(TEXT.replace("gpu1", "gpu9"))
    filled = fill_secrets(version, TEXT)
    env = {"TEAM": "blue"}
    assert load_config(filled, env=env).servers["a"].host == "gpu9"
    assert load_config(filled.replace("gpu9", "gpu1"), env=env) == load_config(
        TEXT.replace("|\n          ", ""), env=env
    )


@pytest.mark.parametrize("change", [("@db/", "@other/"), ("x-key: hunter4, ", "")])
def test_a_secret_that_is_gone_is_named(change):
    """Another database has another password; nothing is guessed."""
    with pytest.raises(ConfigError, match="versions store no secrets"):
        fill_secrets(mask_secrets(TEXT), TEXT.replace(*change))


def test_a_version_without_secrets_needs_no_other_text():
    """The file of now may be anything."""
    assert fill_secrets("servers: {a: {host: h}}\n", "{ no yaml") == "servers: {a: {host: h}}\n"


def test_headers_of_servers_are_masked_in_what_is_shown():
    """As those of external hosts are."""
    config = load_config("servers: {a: {host: h, headers: {x-key: hunter2}}, b: {host: i}}")
    assert redacted(config).servers["a"].headers == {"x-key": "***"}
    assert redacted(config).servers["b"] == config.servers["b"]
