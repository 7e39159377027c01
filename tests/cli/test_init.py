"""`orouter init`: a config to start from."""

from __future__ import annotations

import pytest

from ollama_router_core.testing import SimulatorThread
from support.other_program import other_program
from support.tap import closed_port


def test_init_writes_a_config_that_checks(cli, tmp_path):
    """What was written loads without a problem and names one server on this machine."""
    assert "orouter.yml" in cli("init").out
    assert cli("config", "check").code == 0
    assert "#" in (tmp_path / "orouter.yml").read_text()


def test_init_never_overwrites_unless_told(cli, write_config):
    """A config of many evenings survives a careless line; --force is explicit."""
    path = write_config("servers: {precious: {host: gpu1}}\n")
    refused = cli("init")
    assert (refused.code, refused.out) == (1, "")
    assert "--force" in refused.err
    assert "precious" in path.read_text()
    assert cli("init", "--force").code == 0
    assert "precious" not in path.read_text()


def test_init_asks_the_servers_first(cli, tmp_path):
    """Version and models of each server that answers stand in the file; several follow one --probe."""
    with SimulatorThread(models=["llama3.1:8b"]) as one, SimulatorThread(models=["qwen3:8b"]) as two:
        result = cli("init", "--probe", one.url, two.url)
        servers = cli("config", "show", "--json").json()["servers"]
    assert result.code == 0
    text = (tmp_path / "orouter.yml").read_text()
    assert "llama3.1:8b" in text
    assert "qwen3:8b" in text
    assert {server["port"] for server in servers.values()} == {one.port, two.port}


def test_a_server_that_does_not_answer_is_written_and_reported(cli, tmp_path):
    """The router starts without it, so the config may name it."""
    with closed_port() as port:
        result = cli("init", "--probe", f"127.0.0.1:{port}")
    assert result.code == 0
    assert "cannot connect" in result.err
    assert str(port) in (tmp_path / "orouter.yml").read_text()


def test_another_program_is_not_taken_for_an_ollama(cli):
    """A wrong port is told at once, and not with the first request."""
    with other_program() as port:
        assert "answered /api/version with 404: is this Ollama?" in cli("init", "--probe", f"127.0.0.1:{port}").err


@pytest.mark.parametrize("url", ["ftp://gpu1", "http://gpu1/path", "http://joe:hunter2@gpu1"])
def test_an_address_that_is_none_is_refused_and_not_repeated(cli, tmp_path, url):
    """It may hold a password."""
    result = cli("init", "--probe", url)
    assert result.code == 2
    assert "HOST[:PORT]" in result.err
    assert "hunter2" not in result.err
    assert not (tmp_path / "orouter.yml").exists()


def test_the_file_can_be_anywhere(cli, tmp_path):
    """--config names it, and JSON says so."""
    target = tmp_path / "etc.yml"
    assert cli("init", "--config", str(target), "--json").json() == {"path": str(target), "servers": []}
    assert target.exists()


def test_a_folder_that_is_not_there_is_one_text(cli, tmp_path):
    """The path and the reason."""
    result = cli("init", "--config", str(tmp_path / "missing" / "orouter.yml"))
    assert result.code == 1
    assert "cannot write" in result.err
