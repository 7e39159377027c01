"""`orouter status`: the router and every server at a glance."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ollama_router_core.testing import SimulatorThread, model
from support.other_program import other_program
from support.tap import closed_port
from support.waiting import wait_until
from support.workers import served

CONFIG = """\
proxy_port: {router}
servers:
  one: {{host: 127.0.0.1, port: {one}, max_memory_gb: 24.0}}
  two: {{host: 127.0.0.1, port: {two}, priority: 3}}
  spare: {{host: gpu9, enabled: false}}
"""


@pytest.fixture
def closed():
    """Three ports that refuse connections."""
    with closed_port() as one, closed_port() as two, closed_port() as router:
        yield one, two, router


def test_each_server_has_a_line(cli, write_config, closed):
    """Healthy with its version and models, unhealthy with the reason, disabled as such."""
    _, two, router = closed
    with SimulatorThread(models=["llama3.1:8b", "qwen3:8b"], version="0.32.15") as one:
        write_config(CONFIG.format(one=one.port, two=two, router=router))
        text = cli("status").out
        status = cli("status", "--json").json()
    assert status["servers"]["one"]["status"] == "healthy"
    assert status["servers"]["one"]["version"] == "0.32.15"
    assert status["servers"]["one"]["models"] == ["llama3.1:8b", "qwen3:8b"]
    assert status["servers"]["two"]["status"] == "unhealthy"
    assert status["servers"]["two"]["error"]
    assert status["servers"]["spare"]["status"] == "disabled"
    assert status["router"]["running"] is False
    assert [line.split()[:2] for line in text.splitlines() if line.startswith(("one", "two", "spare"))] == [
        ["one", "healthy"],
        ["two", "unhealthy"],
        ["spare", "disabled"],
    ]
    assert "not running" in text


def test_no_server_at_all_is_exit_code_1(cli, write_config, closed):
    """The answer is printed all the same."""
    one, two, router = closed
    write_config(CONFIG.format(one=one, two=two, router=router))
    result = cli("status")
    assert result.code == 1
    assert "unhealthy" in result.out
    assert "no server answers" in result.err


def test_another_program_on_the_port_is_not_taken_for_the_router(cli, write_config, closed):
    """An Ollama answers on 11434 too."""
    with SimulatorThread(models=["llama3.1:8b"]) as one, SimulatorThread() as other:
        write_config(CONFIG.format(one=one.port, two=closed[1], router=other.port))
        status = cli("status", "--json").json()
    assert status["router"]["running"] is False
    assert "another program" in status["router"]["error"]


def test_another_program_in_a_server_s_place_is_told(cli, write_config, closed):
    """It answers, but not as an Ollama does: it gets no prompts, and the reason is said."""
    with other_program() as port:
        write_config(CONFIG.format(one=port, two=closed[1], router=closed[2]))
        result = cli("status")
    assert result.code == 1
    (line,) = [line for line in result.out.splitlines() if line.startswith("one")]
    assert "unhealthy" in line
    assert "is this Ollama?" in line


def test_models_that_differ_by_server_are_listed(cli, write_config):
    """One name, two digests: which answer a client gets would depend on the server."""
    changed = replace(model("llama3.2:3b"), digest="f" * 64)
    with (
        SimulatorThread(models=["llama3.2:3b", "llama3.1:8b"]) as one,
        SimulatorThread(models=[changed, "llama3.1:8b"]) as two,
    ):
        write_config(
            f"servers:\n  one: {{host: 127.0.0.1, port: {one.port}}}\n  two: {{host: 127.0.0.1, port: {two.port}}}\n"
        )
        found = cli("status", "--json").json()["differing_models"]
        shown = cli("status").out
    assert list(found) == ["llama3.2:3b"]
    assert sorted(names for names in found["llama3.2:3b"].values()) == [["one"], ["two"]]
    assert "f" * 12 in shown


@pytest.mark.parametrize(
    ("mistake", "told_of_it"),
    [(('"host"', '"hots"'), "servers.one.hots: unknown key"), (("}}", "}"), "not valid YAML")],
)
def test_a_file_that_was_refused_is_told_beside_the_router_that_goes_on(tmp_path, mistake, told_of_it):
    """What the router says, with the old config in effect, and then what is wrong with the file, line by line."""
    with SimulatorThread(models=["llama3.1:8b"]) as one:
        servers = {"one": {"host": "127.0.0.1", "port": one.port}}
        with closed_port() as port:
            pass
        with served(tmp_path, servers, "--port", str(port), proxy_port=port) as router:
            file = router.orouter.config
            file.write_text(f"proxy_port: {port}\nservers: {json.dumps(servers).replace(*mistake)}\n")
            wait_until(lambda: router.admin("/router/status").json()["config_problem"], "it is refused")
            done = router.orouter.run("status", "--json")
            text = router.orouter.run("status").stdout
    assert done.returncode != 0
    assert told_of_it in done.stderr
    told = json.loads(done.stdout)["router"]
    assert (told["running"], told["status"]) == (True, "degraded")
    assert any("config file has problems and was not applied" in problem for problem in told["problems"])
    assert "config file has problems and was not applied" in text
    assert f"those before {file.name} had problems" in text
