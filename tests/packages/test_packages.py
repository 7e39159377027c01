"""What is published: the same bytes from the same sources, complete, and enough to run from."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import httpx
import pytest
import yaml

from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
NAMES = ["ollama_router_cli", "ollama_router_core", "ollama_router_server"]

pytestmark = [
    pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed"),
    pytest.mark.timeout(600),  # whole environments are made; a machine with other work took longer than two minutes
]


def build(folder: Path, *, mask: int) -> Path:
    """Build all packages from a copy of the sources, whose files are as new as the copy."""
    shutil.copytree(
        ROOT / "packages",
        folder / "packages",
        ignore=shutil.ignore_patterns("__pycache__"),
        copy_function=shutil.copyfile,
    )
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    command = ["uv", "build", "--all-packages", "--quiet", "--out-dir", str(folder / "dist")]
    done = subprocess.run(command, cwd=folder, umask=mask, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels and sdists."""
    return build(tmp_path_factory.mktemp("first"), mask=0o022)


def wheel(dist: Path, name: str) -> Path:
    """The wheel of one package."""
    (found,) = dist.glob(f"{name}-*.whl")
    return found


def metadata(path: Path) -> Message:
    """What an index shows of a wheel."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_two_builds_are_the_same_to_the_last_bit(dist: Path, tmp_path: Path) -> None:
    """Whenever, wherever and by whom it is built: nobody has to trust who built it."""
    again = build(tmp_path, mask=0o077)
    files = sorted(path.name for path in dist.iterdir() if path.suffix in {".whl", ".gz"})
    assert len(files) == 2 * len(NAMES)
    assert all((dist / name).read_bytes() == (again / name).read_bytes() for name in files)


@pytest.mark.parametrize("name", NAMES)
def test_metadata_are_complete(dist: Path, name: str) -> None:
    """Licence, Pythons, summary and description; one version for all three."""
    found = metadata(wheel(dist, name))
    assert found["License-Expression"] == "MIT"
    assert found["License-File"] == "LICENSE"
    assert found["Requires-Python"] == ">=3.11"
    assert found["Summary"]
    assert found["Description-Content-Type"] == "text/markdown"
    assert len(str(found.get_payload())) > 200
    assert "Typing :: Typed" in found.get_all("Classifier", [])
    assert found["Version"] == metadata(wheel(dist, NAMES[0]))["Version"]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_a_package_is_in_it(dist: Path, name: str) -> None:
    """Templates, style sheets and migrations as well as modules, in the wheel and in the sdist."""
    source = ROOT / "packages" / name / "src"
    wanted = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert f"{name}/py.typed" in wanted
    with zipfile.ZipFile(wheel(dist, name)) as archive:
        assert wanted <= set(archive.namelist())
    (sdist,) = dist.glob(f"{name}-*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert wanted <= {each.partition("/src/")[2] for each in archive.getnames()}


def test_the_demonstration_runs_from_the_built_files_alone(dist: Path, tmp_path: Path) -> None:
    """In an environment of its own, far from the sources."""
    cli, *others = (str(wheel(dist, name)) for name in NAMES)
    dropped = ("OROUTER_", "OLLAMA_", "PYTHON", "VIRTUAL_ENV", "UV_PROJECT")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    command = ["uvx", "--isolated", "--from", cli, *(word for each in others for word in ("--with", each))]
    done = subprocess.run(
        [*command, "orouter", "demo", "--once"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "X-Router-Server: small" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_tool_that_uv_installs_makes_itself_a_service(dist: Path, tmp_path: Path) -> None:
    """`uv tool install`, then `orouter service install`: the unit runs what was installed, and systemd reads it.

    Once it is installed anew, the unit's reload puts the new one in the old one's place.
    """
    cache = subprocess.check_output(["uv", "cache", "dir"], text=True, timeout=60).strip()
    home, notes, manager = tmp_path / "home", tmp_path / "notes", tmp_path / "manager"
    home.mkdir(), manager.mkdir()
    for name in ("systemctl", "loginctl"):
        (manager / name).write_text(f'#!/bin/sh\necho "{name} $@" >> {notes}\n')
        (manager / name).chmod(0o755)
    dropped = ("OROUTER_", "OLLAMA_", "PYTHON", "VIRTUAL_ENV", "UV_PROJECT", "UV_TOOL", "XDG_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    clean |= {"HOME": str(home), "UV_CACHE_DIR": cache}
    clean["PATH"] = f"{home}/.local/bin:{manager}:{clean['PATH']}"

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=home, env=clean, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    cli, *others = (str(wheel(dist, name)) for name in NAMES)
    install = ("uv", "tool", "install", "--quiet", cli, *(word for each in others for word in ("--with", each)))
    run(*install)
    (home / "orouter.yml").write_text("servers: {a: {host: 127.0.0.1, port: 9}}\n")
    run(f"{home}/.local/bin/orouter", "-c", "orouter.yml", "service", "install", "--user")
    unit = home / ".config" / "systemd" / "user" / "ollama-router.service"
    (start,) = (line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    program, *words = start.removeprefix("ExecStart=").split()
    assert run(program, *words[:2], "config", "check")
    assert notes.read_text().splitlines()[-1] == "systemctl --user enable --now ollama-router.service"
    if shutil.which("systemd-analyze"):
        assert "ollama-router.service" not in run("systemd-analyze", "verify", "--man=no", str(unit))
    with (home / "log").open("w") as log:
        process = subprocess.Popen([program, *words, "--port", "0"], cwd=home, env=clean, stdout=log, stderr=log)
    url = said(home / "log", "listening on (.*)")
    run(*install, "--reinstall-package", "ollama-router-server")
    for line in unit.read_text().splitlines():
        if line.startswith("ExecReload="):
            run(*line.removeprefix("ExecReload=").replace("$MAINPID", str(process.pid)).split())
    successor = int(said(home / "log", '"successor_starts".*"pid": ([0-9]+)'))
    assert process.wait(timeout=120) == 0
    assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
    os.kill(successor, signal.SIGTERM)


def said(log: Path, pattern: str) -> str:
    """What a program wrote, once it has."""
    found: list[str] = []

    def looked() -> bool:
        found.extend(re.findall(pattern, log.read_text()))
        return bool(found)

    wait_until(looked, f"the log says {pattern}", seconds=120)
    return found[0]


def test_the_bill_of_materials_names_what_is_installed_and_nothing_else(tmp_path: Path) -> None:
    """The release workflow's own command: our packages, what they need with every extra, no tool of development."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))["jobs"]
    (command,) = (one["run"] for one in jobs["build"]["steps"] if one.get("name") == "Software bill of materials")
    options = shlex.split(command)
    options[options.index("--output-file") + 1] = str(tmp_path / "sbom.json")
    done = subprocess.run(options, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    bill = json.loads((tmp_path / "sbom.json").read_text(encoding="utf-8"))
    named = {one["name"] for one in bill["components"]}
    needed = {name.replace("_", "-") for name in NAMES} | {"falcon", "uvicorn", "psycopg", "redis", "zeroconf"}
    assert bill["bomFormat"] == "CycloneDX"
    assert needed <= named
    assert not named & {"pytest", "ruff", "mypy", "nox"}
