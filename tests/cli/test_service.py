"""`orouter service`: what is written and run, with a service manager that only takes notes."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from ollama_router_cli.rendering.service_units import render_agent, render_socket, render_unit, stop_seconds
from ollama_router_core.config.client_settings import Limits

CONFIG = "servers: {a: {host: gpu1}}\nproxy_port: 11500\n"
DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """Each command that would have been run, a line each."""
    folder, notes = tmp_path / "bin", tmp_path / "notes"
    folder.mkdir()
    for name in ("systemctl", "loginctl"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $@" >> {notes}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return notes


def test_a_user_s_service_is_written_enabled_and_started(cli, write_config, notes, tmp_path):
    """And goes again; the config stays."""
    path = write_config(CONFIG)
    done = cli("service", "install", "--user", "--socket", "--program", "/opt/r/orouter")
    assert done.code == 0, done.err
    folder = tmp_path / "home" / ".config" / "systemd" / "user"
    unit = (folder / "ollama-router.service").read_text()
    assert f"ExecStart=/opt/r/orouter --config {path} serve\n" in unit
    assert "ListenStream=127.0.0.1:11500\n" in (folder / "ollama-router.socket").read_text()
    both = "ollama-router.socket ollama-router.service"
    assert notes.read_text().splitlines() == [
        "loginctl enable-linger",
        "systemctl --user daemon-reload",
        f"systemctl --user enable --now {both}",
    ]
    notes.unlink()
    assert cli("service", "uninstall", "--user").code == 0
    assert notes.read_text().splitlines() == [
        f"systemctl --user disable --now {both}",
        "systemctl --user daemon-reload",
    ]
    assert list(folder.iterdir()) == []
    assert path.exists()
    assert "no service is installed" in cli("service", "uninstall", "--user").err


def test_a_dry_run_prints_all_and_changes_nothing(cli, write_config, notes, tmp_path):
    """The machine's service, with the account that it needs."""
    write_config(CONFIG)
    config = str(tmp_path / "orouter.yml")
    shown = cli("service", "install", "--system", "--dry-run", "--program", "/opt/r/orouter", "--config", config).out
    assert "# /etc/systemd/system/ollama-router.service\n" in shown
    assert "useradd --system" in shown
    assert shown.endswith("systemctl daemon-reload\nsystemctl enable --now ollama-router.service\n")
    assert not notes.exists()


@pytest.mark.parametrize("kind", ["--system", "--user"])
def test_the_service_reads_the_section_that_was_checked(cli, write_config, notes, kind):
    """An option or a variable of the shell is nothing that it would see."""
    write_config("production: {servers: {a: {host: gpu1}}}\nstaging: {servers: {b: {host: gpu2}}}\n")
    shown = cli("-e", "staging", "service", "install", kind, "--dry-run", "--program", "/opt/r/orouter").out
    run = [line for line in shown.splitlines() if " --config " in line]
    assert len(run) >= 2
    assert all("orouter.yml --environment staging " in line for line in run)
    agent = plistlib.loads(render_agent(Path("/o"), Path("/o.yml"), Path("/o.log"), environment="staging").encode())
    assert agent["ProgramArguments"] == ["/o", "--config", "/o.yml", "--environment", "staging", "serve"]


@pytest.mark.parametrize(("url", "told"), [("", True), ("database_url: sqlite:////var/lib/r.sqlite3\n", False)])
def test_the_machine_s_service_has_a_database_that_commands_find(cli, write_config, notes, url, told):
    """Else users that somebody makes would be in another one, and nothing would say so."""
    write_config(CONFIG + url)
    done = cli("service", "install", "--system", "--dry-run", "--program", "/opt/r/orouter")
    assert ("database_url: sqlite:////var/lib/ollama-router/router.sqlite3" in done.err) is told


def test_a_socket_is_opened_at_an_address(cli, write_config, notes):
    """No name is looked up for it."""
    write_config(f"{CONFIG}proxy_host: localhost\n")
    done = cli("service", "install", "--user", "--socket", "--program", "/opt/r/orouter")
    assert (done.code, "proxy_host is localhost" in done.err) == (1, True)
    assert not notes.exists()


@pytest.mark.parametrize(
    ("program", "reason"), [("/home/me/orouter", "in a home"), ("/opt/a b/orouter", "cannot name")]
)
def test_what_the_service_could_not_run_is_refused(cli, write_config, notes, program, reason):
    """Before anything is written."""
    write_config(CONFIG)
    done = cli("service", "install", "--system", "--program", program)
    assert (done.code, reason in done.err) == (1, True)
    assert not notes.exists()


def test_a_config_is_needed(cli, notes):
    """The built-in defaults are for a first look."""
    assert "orouter init writes one" in cli("service", "install", "--user").err


def test_the_units_of_deploy_are_those_that_are_installed():
    """With the paths of docs/how-to/deploy.md."""
    unit = render_unit(Path("/opt/ollama-router/bin/orouter"), Path("/etc/ollama-router/orouter.yml"), system=True)
    assert unit == (DEPLOY / "ollama-router.service").read_text()
    assert render_socket("127.0.0.1", 11433) == (DEPLOY / "ollama-router.socket").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("system", [False, True])
def test_systemd_understands_the_units(tmp_path, system):
    """Every line of service and socket; the program exists."""
    unit, listening = tmp_path / "ollama-router.service", tmp_path / "ollama-router.socket"
    unit.write_text(render_unit(Path("/bin/true"), Path("/etc/ollama-router/orouter.yml"), system=system))
    listening.write_text(render_socket("127.0.0.1", 11433))
    command = ["systemd-analyze", "verify", "--man=no", str(unit), str(listening)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "ollama-router." not in done.stderr, done.stderr


def test_a_mac_gets_an_agent():
    """As launchd reads it."""
    agent = plistlib.loads(render_agent(Path("/opt/r/orouter"), Path("/etc/o.yml"), Path("/var/o.log")).encode())
    assert agent["ProgramArguments"] == ["/opt/r/orouter", "--config", "/etc/o.yml", "serve"]
    assert agent["KeepAlive"] is True
    assert agent["ExitTimeOut"] > Limits().shutdown_grace


@pytest.mark.parametrize("kind", ["--system", "--user"])
def test_the_service_manager_waits_as_long_as_the_router_may_take(cli, write_config, notes, kind):
    """What the config says, not what the unit of the defaults does."""
    write_config(f"{CONFIG}limits: {{shutdown_grace: 1800, lame_duck: 20}}\n")
    shown = cli("service", "install", kind, "--dry-run", "--program", "/opt/r/orouter").out
    assert "TimeoutStopSec=1850\n" in shown
    assert stop_seconds(Limits()) == 630
