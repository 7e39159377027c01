"""What many commands share, each thing declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "ConfigOption",
    "EnvironmentOption",
    "JsonOption",
    "TokenFileOption",
    "YesOption",
    "command_group",
    "examples",
    "in_place_of",
    "option",
]

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
TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="File with the token; else $OROUTER_TOKEN or asked for."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def option(name: str, kind: Any, default: Any, **shown: Any) -> inspect.Parameter:
    """An option for `in_place_of`; `shown` is what `typer.Option` takes."""
    annotation = Annotated[kind, typer.Option(f"--{name.replace('_', '-')}", **shown)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def in_place_of(
    name: str, options: Sequence[inspect.Parameter], read: Callable[[Mapping[str, Any]], Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options in place of one parameter, which gets what `read` makes of what was typed.

    What several commands take together is so declared once. `read` may raise `typer.BadParameter`.
    """

    def change(command: Callable[..., None]) -> Callable[..., None]:
        shown: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            shown += options if parameter.name == name else [parameter]

        @wraps(command)
        def run(**given: Any) -> None:
            typed = {parameter.name: given.pop(parameter.name) for parameter in options}
            command(**given, **{name: read(typed)})

        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        return run

    return change


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
