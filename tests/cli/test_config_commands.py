"""`orouter config`: every problem at once, and what holds."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import yaml

from ollama_router_server.admin.doctor import config_warnings

FIVE_MISTAKES = """\
proxy_prt: 1
servers:
  big:
    host: http://gpu1
    port: 99999
    max_memory_gb: lots
routing_strategy: best
"""


def test_check_prints_every_problem_with_its_line(cli, write_config):
    """Five mistakes are five lines, each with the line in the file and what was expected."""
    write_config(FIVE_MISTAKES)
    result = cli("config", "check")
    assert result.code == 1
    problems = [line.strip() for line in result.err.splitlines() if line.strip().startswith("line ")]
    assert [problem.split(":")[0] for problem in problems] == ["line 1", "line 4", "line 5", "line 6", "line 7"]
    assert "did you mean 'proxy_port'?" in problems[0]


def test_check_prints_the_problems_as_json(cli, write_config):
    """Programs get line, path and message of each problem, and exit code 1."""
    write_config(FIVE_MISTAKES)
    result = cli("config", "check", "--json")
    assert result.code == 1
    assert '"ok": false' in result.out
    assert result.out.count('"message"') == 5


def test_check_of_a_good_config_says_what_it_read(cli, write_config):
    """The file, the section and the number of servers: nobody checks the wrong file unawares."""
    path = write_config("staging: {servers: {big: {host: gpu1}}}\n")
    result = cli("config", "check", "--environment", "staging")
    assert result.code == 0
    assert path.name in result.out
    assert "staging" in result.out
    assert "1 server," in result.out


def test_check_warns_of_a_key_that_is_not_set(cli, write_config):
    """A host without its key would be refused there; that is no error of the file."""
    write_config("external_hosts: {openai: {host: api.openai.com, api_key_env: NO_SUCH_VARIABLE_HERE}}\n")
    result = cli("config", "check")
    assert result.code == 0
    assert "NO_SUCH_VARIABLE_HERE" in result.err


def test_check_warns_of_a_certificate_that_cannot_be_used(cli, write_config):
    """With both files named; no problem of the config, as who checks may not be allowed to read them."""
    write_config("servers: {one: {host: h}}\ntls: {certificate: /nowhere/c.pem, key: /nowhere/k.pem}\n")
    result = cli("config", "check")
    assert result.code == 0
    assert "warning: tls: cannot use /nowhere/c.pem with /nowhere/k.pem: No such file or directory" in result.err


def test_check_warns_of_what_the_router_could_not_start_without(cli, write_config, monkeypatch):
    """An extra that is not installed is known before the start; one that nothing asks for is not missed."""
    monkeypatch.setattr(config_warnings, "find_spec", lambda _module: None)
    write_config(
        "servers: {a: {host: a}}\ndiscovery: {mdns: _ollama._tcp}\ncoordination: {url: 'redis://127.0.0.1/0'}\n"
    )
    told = json.loads(cli("config", "check", "--json").out)["warnings"]
    extras = [text for text in told if "needs the extra" in text]
    assert [text.split()[0] for text in extras] == ["coordination.url", "discovery.mdns"]
    assert extras[0].endswith("pip install 'ollama-router-server[redis]'")


def test_check_knows_parts_of_opentelemetry_from_all_that_traces_need(cli, write_config, monkeypatch, tmp_path):
    """Its API alone, which other packages bring, or an empty folder of that name sends no trace."""
    write_config("servers: {a: {host: a}}\ntraces: {enabled: true}\n")
    assert "needs the extra otel" not in cli("config", "check").err
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "sdk").mkdir()
    alone = ModuleType("opentelemetry")
    alone.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "opentelemetry", alone)
    assert "needs the extra otel" in cli("config", "check").err


def test_check_says_what_routers_on_one_database_do_not_share(cli, write_config, monkeypatch):
    """Without a Redis: they would be several on a PostgreSQL, and one on a file."""
    monkeypatch.delenv("OROUTER_DATABASE_URL", raising=False)
    shared = "but not max_concurrent, the queue, polls and what they learn of servers"
    address = "postgresql://orouter@127.0.0.1:1/orouter"
    write_config(f"servers: {{big: {{host: gpu1}}}}\ndatabase_url: {address}\n")
    assert shared in cli("config", "check").err
    write_config(f"servers: {{big: {{host: gpu1}}}}\ndatabase_url: {address}\ncoordination: {{url: 'redis://gpu1'}}\n")
    assert shared not in cli("config", "check").err
    write_config("servers: {big: {host: gpu1}}\n")
    assert shared not in cli("config", "check").err


def test_check_tells_what_would_change(cli, write_config, tmp_path):
    """Names, never values; what a running router cannot take up is told apart."""
    old = tmp_path / "old.yml"
    old.write_text("servers: {big: {host: gpu1}}\n")
    write_config("servers: {big: {host: gpu1, priority: 7}}\nproxy_port: 4711\n")
    result = cli("config", "check", "--against", str(old))
    assert f"differs from {old} in: proxy_port, servers.big.priority\n" in result.out
    assert "takes effect after a restart: proxy_port\n" in result.out
    assert "4711" not in result.out
    result = cli("config", "check", "--against", str(old), "--json")
    assert '"needs_restart": [' in result.out


def test_show_prints_a_config_that_loads_again(cli, write_config, tmp_path):
    """What is shown is YAML of every setting, and a config itself."""
    write_config("servers: {big: {host: gpu1, max_memory_gb: 24.0}}\nrequest_timeout: 77.0\n")
    shown = cli("config", "show").out
    assert yaml.safe_load(shown)["request_timeout"] == 77.0
    again = tmp_path / "again.yml"
    again.write_text(shown)
    assert cli("config", "show", "--config", str(again), "--json").json() == cli("config", "show", "--json").json()


def test_show_hides_the_password_of_the_database(cli, write_config):
    """Whatever is shown can be pasted into a bug report."""
    write_config("servers: {big: {host: gpu1}}\ndatabase_url: postgresql://router:hunter2hunter2@db/router\n")
    for arguments in (("config", "show"), ("config", "show", "--json")):
        result = cli(*arguments)
        assert result.code == 0
        assert "hunter2" not in result.out + result.err


def test_reference_prints_every_setting_without_a_config(cli):
    """As YAML to copy from, as the table of the documentation, and as JSON."""
    text = cli("config", "reference").out
    assert "#proxy_port: 11434" in text
    assert "# Port to listen on." in text
    table = cli("config", "reference", "--markdown").out
    assert table.startswith("| setting | value | default | meaning |")
    by_path = {setting["path"]: setting for setting in cli("config", "reference", "--json").json()}
    assert by_path["proxy_port"]["default"] == "11434"
    assert by_path["servers.<name>.host"]["default"] is None


def test_a_file_of_the_rails_application_is_told_how_every_path_is_forwarded(cli, write_config):
    """Its servers have names; with the setting, or without names, there is nothing to say."""
    line = "forward_unknown: [/api/..., /v1/...]"
    text = "servers: {small: {name: Small server, host: gpu1}}\n"
    write_config(text)
    assert line in cli("config", "check").err
    (hint,) = cli("config", "check", "--json").json()["hints"]
    assert line in hint
    write_config(f"{text}{line}\n")
    assert cli("config", "check", "--json").json()["hints"] == []
    write_config("servers: {small: {host: gpu1}}\n")
    assert cli("config", "check", "--json").json()["hints"] == []
