"""The files in deploy/ hold what docs/how-to/deploy.md says of them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_router_cli.main import app
from ollama_router_core.config import load_config

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = (DEPLOY / "ollama-router.service").read_text(encoding="utf-8")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def compose() -> dict[str, Any]:
    """The compose file."""
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("path", sorted((DEPLOY / "examples").glob("*.yml")), ids=lambda path: path.name)
def test_example_configs_load(path: Path) -> None:
    """An example is where people start; it must have no problem."""
    config = load_config(path.read_text(encoding="utf-8"))
    assert config.servers
    assert config.database_url


def test_the_compose_configs_servers_are_the_simulated_ones() -> None:
    """The router of the compose file finds its servers by their services' names, on their port."""
    text = (DEPLOY / "examples" / "compose.yml").read_text(encoding="utf-8")
    config = load_config(text)
    simulated = set(compose()["services"]) - {"router"}
    assert {server.host for server in config.servers.values()} == simulated
    assert {server.port for server in config.servers.values()} == {11434}
    assert config.proxy_port == 11434


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the package with this interpreter."""
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_simulators_of_the_compose_file_take_their_options() -> None:
    """Their command lines are right; `--help` at the end keeps them from listening."""
    for name in ("small", "big"):
        service = compose()["services"][name]
        program, *entry = service["entrypoint"]
        assert program == "python"
        assert entry[:1] == ["-m"]
        done = run(*entry[1:], *service["command"], "--help")
        assert done.returncode == 0, done.stderr


def test_the_routers_commands_exist() -> None:
    """Container and unit start commands that the command line has."""
    lines = re.findall(r"^Exec\w+=\S+/orouter (.*)$", UNIT, re.MULTILINE)
    starts = [[word for word in shlex.split(line) if not word.startswith(("-", "/"))] for line in lines]
    starts.append(compose()["services"]["router"]["command"])
    assert len(starts) == 4
    for words in starts:
        with pytest.raises(SystemExit) as ended:
            app([*words, "--help"], prog_name="orouter")
        assert ended.value.code == 0, words


def test_containers_run_without_rights() -> None:
    """Read-only, no capabilities, no new privileges, in every service."""
    for service in compose()["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_is_nobodys_and_stops_as_the_router_expects() -> None:
    """Two stages, a numeric user, SIGTERM to the router itself, a health check that needs no curl."""
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    assert "\nUSER 10001:10001\n" in DOCKERFILE
    assert "\nSTOPSIGNAL SIGTERM\n" in DOCKERFILE
    assert '\nENTRYPOINT ["orouter"]\n' in DOCKERFILE
    assert '\nCMD ["serve"]\n' in DOCKERFILE
    assert re.search(r'HEALTHCHECK .*\\\n\s+CMD \["python", "-c", ".*readyz', DOCKERFILE)
    assert "curl" not in DOCKERFILE


def test_what_containers_are_told_to_run_is_in_the_image() -> None:
    """The chart's hook, the health check and the compose files: there is no program but Python and few of busybox's."""
    applets = re.search(r"for applet in ([a-z ]+); do", (DEPLOY / "rootfs.sh").read_text(encoding="utf-8"))
    assert applets is not None
    texts = [path.read_text(encoding="utf-8") for path in (DEPLOY / "helm").rglob("*.yaml")]
    told = set(re.findall(r"\bcommand: *\[\"?([\w./-]+)", "\n".join(texts)))
    told |= set(re.findall(r'^(?:ENTRYPOINT|\s+CMD) \["([^"]+)"', DOCKERFILE, re.MULTILINE))
    told |= {service["entrypoint"][0] for service in compose()["services"].values() if "entrypoint" in service}
    assert {"sleep", "orouter", "python"} <= told
    assert told <= {*applets[1].split(), "orouter", "python"}


def unit_values() -> dict[str, list[str]]:
    """Keys of the unit with their values."""
    values: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE):
        values.setdefault(key, []).append(value)
    return values


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateDevices", "yes"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictNamespaces", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX AF_NETLINK"),  # without the last one no mDNS
        ("SystemCallArchitectures", "native"),
        ("KillMode", "mixed"),
        ("Type", "notify"),
        ("WatchdogSec", "30"),
        ("User", "ollama-router"),
    ],
)
def test_the_unit_is_hardened(key: str, value: str) -> None:
    """Each of these is worth a part of the exposure."""
    assert unit_values()[key] == [value]


def test_the_unit_waits_longer_than_the_router_drains() -> None:
    """Else systemd would kill streams that the router lets finish."""
    grace = load_config("servers: {one: {host: gpu}}").limits.shutdown_grace
    assert int(unit_values()["TimeoutStopSec"][0]) > grace


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_exposure_is_at_most_two() -> None:
    """2.0 of 10, as systemd counts."""
    program = shutil.which("systemd-analyze") or ""
    command = [program, "security", "--offline=true", "--threshold=20", str(DEPLOY / "ollama-router.service")]
    environment = {**os.environ, "SYSTEMD_PAGER": "cat"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-300:]
