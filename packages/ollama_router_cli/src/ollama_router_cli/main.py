"""`orouter`: its commands and their shared behaviour.

A command's module is imported when the command runs, so that `orouter --help` is instant.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ollama_router_cli.arguments.options import ConfigOption, EnvironmentOption, examples

__all__ = ["COMMANDS", "app", "main"]

COMMANDS = {
    "serve": "Run the router until Ctrl-C or SIGTERM.",
    "service": "Have systemd, or launchd on a Mac, run the router.",
    "connect": "Connect ollama and other clients without tokens to a router.",
    "demo": "See the router at work on two simulated servers.",
    "init": "Write a short config file.",
    "config": "Check, show and explain the config; go back to an earlier one.",
    "users": "Create, list and change users.",
    "groups": "Create, list and change groups of users.",
    "route": "Show which server would get a request, and why.",
    "simulate": "Compare routing strategies on a trace, in virtual time.",
    "replay": "Replay logged requests in virtual time.",
    "doctor": "Find problems: config, database, Redis, host, servers.",
    "status": "Show the state of the router and its servers.",
    "console": "Open the web console.",
    "servers": "Show servers of a running router, probe and drain them.",
    "hosts": "Show external hosts of the config and their profiles.",
    "models": "Show models of a running router; pull, load and delete them.",
    "operations": "Show, cancel and retry operations on models.",
    "queue": "Show the queue.",
    "requests": "Show and cancel requests of a running router.",
    "usage": "Show or export usage of a running router.",
    "series": "Show requests per second and times to the first token over time.",
    "history": "Show one day: models by server, failures, loads.",
    "incidents": "List incidents.",
    "me": "Show what your token may do and how much of its limits is left.",
    "top": "Watch servers, models, the queue and active requests.",
    "logs": "Read the request log.",
    "audit": "Read the audit trail.",
    "db": "Check, upgrade, copy, back up and restore the database.",
}
"""Each command and its purpose, in the order of `--help`; its module in `commands` has the same name."""


def _module_of(command: str) -> ModuleType:
    """Import a command with garbage collection disabled, as an import creates no garbage: saves a fifth of its time.

    Freeze the imported objects, or the next young collection would traverse them all: 40 ms of a `serve`.
    """
    gc.disable()
    try:
        return import_module(f"ollama_router_cli.commands.{command}")
    finally:
        gc.freeze()
        gc.enable()


class _Commands(TyperGroup):
    """Load commands on demand; turn errors into one text on standard error and exit code 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        names: dict[str, Any] = dict.fromkeys(COMMANDS)
        self.commands.update(names)  # for "did you mean"; `get_command` returns the commands themselves

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the base class's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(_module_of(cmd_name).app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            text = None if os.environ.get("OROUTER_TRACEBACK") else _explain(error)
            if text is None:
                raise
            typer.echo(f"orouter: {text}", err=True)
            raise typer.Exit(1) from None


def _explain(error: Exception) -> str | None:
    """Return the message for the user; None leaves the error to Typer (wrong usage, exit, abort, closed pipe)."""
    from ollama_router_core.errors import RouterError  # noqa: PLC0415 - `--help` does not need it

    if isinstance(error, RouterError):
        return error.message
    if isinstance(error, BrokenPipeError) or type(error).__module__.startswith(("typer", "click")):
        return None
    if isinstance(error, OSError):
        return str(error)
    return f"internal error: {type(error).__name__}: {error} (OROUTER_TRACEBACK=1 shows where)"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orouter {version('ollama-router-cli')}")
        raise typer.Exit


app = typer.Typer(
    name="orouter",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
)


@app.callback(
    epilog=examples(
        "orouter demo                         see it work; needs nothing else",
        "orouter init --probe gpu1 gpu2       write a config for these servers",
        "orouter serve                        creates an admin at the first start",
        "orouter users create alice           prints her token and a curl command to try",
        "orouter route explain llama3.1:8b    which server would get this, and why",
        title="First steps",
    )
)
def _root(
    *,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """One address in front of many Ollama servers: run it, question it, manage its users.

    Exit codes: 0 success, 1 failure, 2 wrong usage. Results go to standard output, everything else to standard error.
    """
    # Before the command's name, these options set defaults, as the variables do.
    if config is not None:
        os.environ["OROUTER_CONFIG"] = str(config)
    if environment is not None:
        os.environ["OROUTER_ENV"] = environment


def main() -> None:
    """Run the console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a `?` in the output is better than a failure
    app()
