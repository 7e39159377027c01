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
    assert f"cannot connect to 127.0.0.1:{port}" in result.err
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


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A machine with two GPUs of 24 GiB, and a systemctl that writes down what it is asked."""
    folder, asked = tmp_path / "bin", tmp_path / "asked"
    folder.mkdir()
    rows = "0, 24564\\n1, 24564\\n"
    for name, does in (("nvidia-smi", f"printf '{rows}'"), ("systemctl", f'echo "$@" >> {asked}')):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return asked


def test_split_gpus_prints_units_config_start_and_undo(cli, tmp_path, tools):
    """One Ollama for each GPU that is found, with a port of its own, the shared models; nothing is written."""
    out = cli("init", "--split-gpus").out
    for number in (0, 1):
        assert f"ollama-gpu{number}.service\n" in out
        assert f"Environment=CUDA_VISIBLE_DEVICES={number}\n" in out
        assert f"Environment=OLLAMA_HOST=127.0.0.1:{11441 + number}\n" in out
    assert out.count("Environment=OLLAMA_MODELS=/usr/share/ollama/.ollama/models\n") == 2
    assert out.count("Environment=OLLAMA_NOPRUNE=1\n") == 2
    assert "systemctl enable --now ollama-gpu0.service ollama-gpu1.service" in out
    assert "rm /etc/systemd/system/ollama-gpu0.service /etc/systemd/system/ollama-gpu1.service" in out
    assert out.rstrip().endswith("systemctl enable --now ollama.service")
    assert not (tmp_path / "orouter.yml").exists()
    assert not tools.exists()


def test_split_gpus_writes_units_and_a_config_that_checks(cli, tmp_path, tools):
    """Groups as they were typed; the memory of each GPU stands in the config, which routes by it."""
    out = cli("init", "--split-gpus", "--gpus", "0,1", "--write", "--unit-folder", str(tmp_path), "--yes").out
    unit = (tmp_path / "ollama-gpu0.service").read_text()
    assert "Environment=CUDA_VISIBLE_DEVICES=0,1\n" in unit
    assert tools.read_text().splitlines() == [
        "daemon-reload",
        "disable --now ollama.service",
        "enable --now ollama-gpu0.service",
    ]
    assert "wrote" in out
    servers = cli("config", "show", "--json").json()["servers"]
    assert [(server["port"], server["gpus"]) for server in servers.values()] == [(11441, [24.0, 24.0])]


def test_split_gpus_asks_before_it_writes(cli, tmp_path, tools):
    """No is an answer: no file, no service is touched."""
    assert cli("init", "--split-gpus", "--write", "--unit-folder", str(tmp_path), stdin="n\n").code == 1
    assert not list(tmp_path.glob("*.service"))
    assert not tools.exists()


def test_gpus_of_amd_are_split_by_their_own_variable(cli, tmp_path, tools):
    """`ROCR_VISIBLE_DEVICES`, by the numbers of rocm-smi."""
    folder = tmp_path / "bin"
    (folder / "nvidia-smi").unlink()
    row = "GPU[0]\t\t: VRAM Total Memory (B): 17163091968"
    (folder / "rocm-smi").write_text(f"#!/bin/sh\necho '{row}'\n")
    (folder / "rocm-smi").chmod(0o755)
    out = cli("init", "--split-gpus").out
    assert "Environment=ROCR_VISIBLE_DEVICES=0\n" in out
    assert "CUDA" not in out
    assert "gpus: [16.0]" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--gpus", "0 1"), "need --split-gpus"),
        (("--write",), "need --split-gpus"),
        (("--split-gpus", "--gpus", "0 0"), "each once"),
        (("--split-gpus", "--gpus", "0; rm"), "expected numbers of GPUs"),
    ],
)
def test_groups_that_are_none_are_wrong_usage(cli, tools, arguments, expected):
    """Exit code 2, and nothing is run."""
    result = cli("init", *arguments)
    assert result.code == 2
    assert expected in " ".join(result.err.split())
    assert not tools.exists()
