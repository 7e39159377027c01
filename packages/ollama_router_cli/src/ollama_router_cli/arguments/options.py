"""Options that many commands share, each declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

__all__ = [
    "ConfigOption",
    "EnvironmentOption",
    "JsonOption",
    "KvType",
    "SharedOptions",
    "TokenFileOption",
    "UrlOption",
    "YesOption",
    "command_group",
    "examples",
    "in_place_of",
    "option",
    "shared",
    "takes_shared_options",
]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Config file. Default: $OROUTER_CONFIG, ./orouter.yml, orouter.yml in your config directory, or"
        " built-in defaults.",
    ),
]
EnvironmentOption = Annotated[
    str | None,
    typer.Option(
        "--environment",
        "-e",
        metavar="NAME",
        help="Environment (section) of the config file. Default: $OROUTER_ENV, else production.",
    ),
]


KvType = Literal["f16", "q8_0", "q4_0"]
"""Values of OLLAMA_KV_CACHE_TYPE."""


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file", metavar="FILE", help="File that contains the token. Default: $OROUTER_TOKEN, else a prompt."
    ),
]
UrlOption = Annotated[str | None, typer.Option(metavar="URL", help="Address of the router. Default: the config's.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def option(name: str, kind: Any, text: str, *, default: Any = None, **shown: Any) -> inspect.Parameter:
    """Build an option for `in_place_of`; `text` is its help, and `shown` is passed to `typer.Option`."""
    return shared(name, Annotated[kind, typer.Option(f"--{name.replace('_', '-')}", help=text, **shown)], default)


def in_place_of(
    name: str, options: Sequence[inspect.Parameter], read: Callable[[Mapping[str, Any]], Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace one parameter of a command by several options; the parameter gets what `read` returns for their values.

    Several commands can thus share a group of options. `read` may raise `typer.BadParameter`.
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


@dataclass(frozen=True, slots=True)
class SharedOptions:
    """Options common to commands that read or change the database: the config, and whether to print JSON."""

    config: Path | None = None
    environment: str | None = None
    as_json: bool = False


def shared(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    """Build an option for `in_place_of` from one declared here."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


takes_shared_options = in_place_of(
    "shared",
    [
        shared("config", ConfigOption),
        shared("environment", EnvironmentOption),
        shared("as_json", JsonOption, default=False),
    ],
    lambda typed: SharedOptions(**typed),
)
"""Adds these options to a command; its parameter `shared` gets the values."""


def examples(*lines: str, title: str = "Examples") -> str:
    """Format lines shown verbatim below a command's help."""
    return "\n".join(("\b", f"{title}:", *(f"  {line}" for line in lines)))


def command_group(purpose: str | None = None) -> typer.Typer:
    """Create the Typer app of one module; without a purpose it has a single command and is no group."""
    app = typer.Typer(no_args_is_help=purpose is not None, rich_markup_mode=None, add_completion=False)
    if purpose is not None:
        app.callback(help=purpose)(_only_a_group)
    return app


def _only_a_group() -> None:
    """Make Typer keep a group even with a single command."""
