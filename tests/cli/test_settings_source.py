"""Which settings hold: the order of the search."""

from __future__ import annotations

import pytest

from ollama_router_cli.sources.settings_source import read_settings
from ollama_router_core.errors import ConfigError

FILE = "servers: {{{name}: {{host: {name}}}}}\n"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A current folder and a user's config folder, both without a file."""
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    user = home / "config" / "ollama-router"
    user.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setattr("platformdirs.user_config_dir", lambda *_, **__: str(user))
    return {
        "option": tmp_path / "option.yml",
        "variable": tmp_path / "variable.yml",
        "here": here / "orouter.yml",
        "user": user / "orouter.yml",
    }


@pytest.mark.parametrize("first", ["option", "variable", "here", "user"])
def test_the_first_place_with_a_file_decides(places, first):
    """--config, then OROUTER_CONFIG, then ./orouter.yml, then the user's config folder."""
    order = ["option", "variable", "here", "user"]
    written = order[order.index(first) :]
    for name in written:
        places[name].write_text(FILE.format(name=name))
    option = places["option"] if "option" in written else None
    variables = {"OROUTER_CONFIG": str(places["variable"])} if "variable" in written else {}
    assert list(read_settings(option, None, variables).config.servers) == [first]


def test_without_a_file_there_are_built_in_defaults(places):
    """One server where OLLAMA_HOST says."""
    settings = read_settings(None, None, {"OLLAMA_HOST": "gpu1:1234"})
    assert settings.source == "built-in defaults"
    assert [(server.host, server.port) for server in settings.config.servers.values()] == [("gpu1", 1234)]


@pytest.mark.parametrize(("named", "by"), [("option", "--config"), ("variable", "OROUTER_CONFIG")])
def test_a_named_file_must_be_there(places, named, by):
    """A file that was asked for is never replaced by another one in silence."""
    places["here"].write_text(FILE.format(name="here"))
    option = places["option"] if named == "option" else None
    variables = {"OROUTER_CONFIG": str(places["variable"])} if named == "variable" else {}
    with pytest.raises(ConfigError, match=by):
        read_settings(option, None, variables)


@pytest.mark.parametrize(
    ("option", "variables", "expected"),
    [
        (None, {}, "production"),
        (None, {"OROUTER_ENV": "staging"}, "staging"),
        ("testing", {"OROUTER_ENV": "staging"}, "testing"),
    ],
)
def test_the_environment_picks_the_section(places, option, variables, expected):
    """--environment, then OROUTER_ENV, then production."""
    sections = (f"{name}: {{servers: {{{name}: {{host: h}}}}}}\n" for name in ("production", "staging", "testing"))
    places["here"].write_text("".join(sections))
    assert list(read_settings(None, option, variables).config.servers) == [expected]


def test_the_database_is_the_variable_then_the_config_then_a_file_of_the_user(places):
    """OROUTER_DATABASE_URL beats database_url, which beats the default."""
    places["here"].write_text("servers: {big: {host: gpu1}}\ndatabase_url: sqlite:///config.sqlite3\n")
    assert read_settings(None, None, {"OROUTER_DATABASE_URL": "sqlite:///v"}).database_url == "sqlite:///v"
    assert read_settings(None, None, {}).database_url == "sqlite:///config.sqlite3"
    places["here"].unlink()
    assert read_settings(None, None, {}).database_url.endswith("router.sqlite3")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::1", "http://[::1]:8080"),
        ("::", "http://[::1]:8080"),
    ],
)
def test_the_url_shown_to_people_can_be_called(places, host, url):
    """An address to listen on everywhere is no address to call."""
    places["here"].write_text(f"servers: {{big: {{host: gpu1}}}}\nproxy_host: '{host}'\nproxy_port: 8080\n")
    assert read_settings(None, None, {}).router_url == url


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"servers: {}\n\xe9"])
def test_a_file_that_is_no_text_is_an_error_of_the_config(places, content):
    """Wrong bytes are reported with the file's name."""
    places["here"].write_bytes(content)
    with pytest.raises(ConfigError, match=r"orouter\.yml"):
        read_settings(None, None, {})


def test_options_before_the_command_count_as_after_it(cli, tmp_path):
    """`orouter --config F --environment E config show` is `orouter config show --config F --environment E`."""
    file = tmp_path / "other.yml"
    file.write_text("staging: {proxy_port: 4242, servers: {big: {host: gpu1}}}\n")
    shown = cli("--config", str(file), "--environment", "staging", "config", "show", "--json").json()
    assert shown["proxy_port"] == 4242
