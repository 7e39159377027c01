"""What many commands share, each thing declared once.

Belongs here: options, how examples stand in a help text, the settings of each module's Typer app.
Does not belong here: what options lead to (`settings_source`, `console`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ConfigOption", "EnvironmentOption", "JsonOption", "YesOption", "command_group", "examples"]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Config file; else $OROUTER_CONFIG, ./orouter.yml, your config folder's orouter.yml, built-in defaults.",
    ),
]
EnvironmentOption = Annotated[
    str | None,
    typer.Option(
        "--environment",
        "-e",
        metavar="NAME",
        help="Section of the config file; else $OROUTER_ENV, else production.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def examples(*lines: str, title: str = "Examples") -> str:
    """Lines to show below a command's help as they are."""
    return "\n".join(("\b", f"{title}:", *(f"  {line}" for line in lines)))


def command_group(purpose: str | None = None) -> typer.Typer:
    """The Typer app of one module; without a purpose it holds a single command that needs no group."""
    app = typer.Typer(no_args_is_help=purpose is not None, rich_markup_mode=None, add_completion=False)
    if purpose is not None:
        app.callback(help=purpose)(_only_a_group)
    return app


def _only_a_group() -> None:
    """With a callback of its own a group stays one, even with a single command in it."""
