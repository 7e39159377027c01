"""`orouter service`: run the router under systemd, or launchd on a Mac."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer

from ollama_router_cli.arguments.options import SharedOptions, command_group, examples, takes_shared_options
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.output import print_json, print_note, print_result
from ollama_router_cli.rendering.service_units import LABEL, render_agent, render_socket, render_unit, stop_seconds
from ollama_router_cli.sources.settings_source import DEFAULT_ENVIRONMENT, Settings, read_settings

__all__ = ["app"]

app = command_group("Have systemd, or launchd on a Mac, run the router.")

Words = tuple[str, ...]

_ACCOUNT: Final = "ollama-router"
_HIDDEN: Final = ("/home/", "/root/", "/run/user/")
"""Directories that the system's unit hides from the service."""

SystemOption = Annotated[
    bool | None,
    typer.Option(
        "--system/--user", help="Install for the system or for your user. Default: the system if you are root."
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print files and commands; change nothing.")]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The files to write and delete and the commands to run, in this order."""

    write: dict[Path, str] = field(default_factory=dict)
    before: tuple[Words, ...] = ()
    delete: tuple[Path, ...] = ()
    after: tuple[Words, ...] = ()


@app.command(
    epilog=examples(
        "orouter service install --dry-run",
        "orouter service install",
        "sudo orouter -c /etc/ollama-router/orouter.yml service install --socket",
    )
)
@takes_shared_options
def install(
    *,
    system: SystemOption = None,
    socket: Annotated[
        bool, typer.Option("--socket", help="Let systemd open the socket, so that no restart refuses a connection.")
    ] = False,
    program: Annotated[
        Path | None, typer.Option("--program", metavar="FILE", help="The orouter to run. Default: this one.")
    ] = None,
    dry_run: DryRunOption = False,
    shared: SharedOptions,
) -> None:
    """Write the units, enable them and start the router. The config must be a file, and is checked first.

    The system service runs under its own account, which is created. On a Mac a launchd agent is installed.
    """
    settings = read_settings(shared.config, shared.environment)
    if settings.path is None:
        raise CommandFailed("there is no config file yet; orouter init writes one")
    chosen = (program or _this_program()).absolute()
    if sys.platform == "darwin":
        _carry_out(_agent(settings, chosen), dry_run=dry_run, as_json=shared.as_json)
        return
    of_machine = _is_system(system)
    if of_machine:
        _require_reachable(chosen, settings.path.absolute())
        _say_whose_database(settings)
    _carry_out(_units(settings, chosen, of_machine=of_machine, socket=socket), dry_run=dry_run, as_json=shared.as_json)


@app.command(epilog=examples("orouter service uninstall --dry-run", "sudo orouter service uninstall"))
@takes_shared_options
def uninstall(*, system: SystemOption = None, dry_run: DryRunOption = False, shared: SharedOptions) -> None:
    """Stop the service and delete its units. Config, database and account stay."""
    if sys.platform == "darwin":
        path = _agent_path()
        plan = _Plan(before=(("launchctl", "bootout", f"gui/{os.getuid()}/{LABEL}"),), delete=(path,))
        _carry_out(plan, dry_run=dry_run, as_json=shared.as_json)
        return
    folder, manager = _manager(of_machine=_is_system(system))
    names = [name for name in ("ollama-router.socket", "ollama-router.service") if (folder / name).exists()]
    if not names:
        raise CommandFailed(f"no service is installed in {folder}")
    stop = (*manager, "disable", "--now", *names)
    delete = tuple(folder / name for name in names)
    plan = _Plan(before=(stop,), delete=delete, after=((*manager, "daemon-reload"),))
    _carry_out(plan, dry_run=dry_run, as_json=shared.as_json)


def _units(settings: Settings, program: Path, *, of_machine: bool, socket: bool) -> _Plan:
    folder, manager = _manager(of_machine=of_machine)
    path = Path(settings.path or "").absolute()
    stop = stop_seconds(settings.config.limits)
    unit = render_unit(program, path, system=of_machine, environment=_section(settings), stop=stop)
    write = {folder / "ollama-router.service": unit}
    enabled = ["ollama-router.service"]
    if socket:
        write[folder / "ollama-router.socket"] = render_socket(settings.config.proxy_host, settings.config.proxy_port)
        enabled = ["ollama-router.socket", *enabled]
    after = ((*manager, "daemon-reload"), (*manager, "enable", "--now", *enabled))
    linger = () if of_machine else (("loginctl", "enable-linger"),)
    return _Plan(write=write, before=tuple(_account()) if of_machine else (), after=(*linger, *after))


def _account() -> Iterator[Words]:
    """Yield the command that creates the system service's account, if it is missing."""
    import pwd  # noqa: PLC0415 - not on every platform

    try:
        pwd.getpwnam(_ACCOUNT)
    except KeyError:
        home = ("--home-dir", "/var/lib/ollama-router", "--shell", "/usr/sbin/nologin")
        yield "useradd", "--system", *home, _ACCOUNT


def _section(settings: Settings) -> str | None:
    """Return the environment for the service, which does not see this shell's variables; None for the default."""
    return None if settings.environment == DEFAULT_ENVIRONMENT else settings.environment


def _say_whose_database(settings: Settings) -> None:
    """Note where the service's database is without `database_url`: other users' commands use their own."""
    if settings.config.database_url is None:
        print_note(
            "database_url is not set: the service keeps its database in the home of ollama-router, where your commands"
            " do not look. In the config, for both: database_url: sqlite:////var/lib/ollama-router/router.sqlite3"
        )


def _agent(settings: Settings, program: Path) -> _Plan:
    path, log = _agent_path(), Path.home() / "Library" / "Logs" / "ollama-router.log"
    config, stop = Path(settings.path or "").absolute(), stop_seconds(settings.config.limits)
    start = ("launchctl", "bootstrap", f"gui/{os.getuid()}", str(path))
    return _Plan(
        write={path: render_agent(program, config, log, environment=_section(settings), stop=stop)}, after=(start,)
    )


def _agent_path() -> Path:
    return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def _manager(*, of_machine: bool) -> tuple[Path, Words]:
    """Return the folder of units, and the command of their manager."""
    if of_machine:
        return Path("/etc/systemd/system"), ("systemctl",)
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "systemd" / "user", ("systemctl", "--user")


def _is_system(asked: bool | None) -> bool:
    return os.geteuid() == 0 if asked is None else asked


def _this_program() -> Path:
    beside = Path(sys.executable).with_name("orouter")
    found = beside if beside.exists() else shutil.which("orouter")
    if found is None:
        raise CommandFailed("no program orouter is beside this interpreter or on the PATH; name it with --program")
    return Path(found)


def _require_reachable(*paths: Path) -> None:
    for path in paths:
        if str(path).startswith(_HIDDEN):
            raise CommandFailed(
                f"{path} is in a home, which the system's service cannot see; put it below /opt or /etc, or use --user"
            )


def _carry_out(plan: _Plan, *, dry_run: bool, as_json: bool) -> None:
    if not dry_run:
        _do(plan)
    if as_json:
        write = {str(path): text for path, text in plan.write.items()}
        run = [shlex.join(words) for words in (*plan.before, *plan.after)]
        print_json({"done": not dry_run, "write": write, "delete": [str(path) for path in plan.delete], "run": run})
    elif dry_run:
        _show(plan)


def _do(plan: _Plan) -> None:
    for path, text in plan.write.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print_note(f"wrote {path}")
    for words in plan.before:
        _run(words)
    for path in plan.delete:
        path.unlink(missing_ok=True)
        print_note(f"deleted {path}")
    for words in plan.after:
        _run(words)


def _show(plan: _Plan) -> None:
    for path, text in plan.write.items():
        print_result(f"# {path}\n{text}")
    for words in (*plan.before, *(("rm", str(path)) for path in plan.delete), *plan.after):
        print_result(shlex.join(words))


def _run(words: Words) -> None:
    print_note(shlex.join(words))
    try:
        done = subprocess.run(words, check=False, stdout=subprocess.DEVNULL)  # noqa: S603 - words of our own
    except OSError as error:
        raise CommandFailed(f"{words[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise CommandFailed(f"{shlex.join(words)} ended with {done.returncode}")
