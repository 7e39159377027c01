"""`orouter hosts`: external hosts and their profiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from ollama_router_cli.arguments.options import SharedOptions, command_group, examples, takes_shared_options
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.output import print_json, print_note, print_result
from ollama_router_cli.rendering.tables import print_table
from ollama_router_cli.sources.settings_source import read_settings
from ollama_router_core.api.version_patterns import matches_any
from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config import ExternalHost
from ollama_router_core.outbound.host_profiles import Profile, SourcedLine, profile_of
from ollama_router_core.outbound.profile_texts import models_in_words, words_of

__all__ = ["app"]

app = command_group("Show external hosts of the config and their profiles.")


@app.command("list", epilog=examples("orouter hosts list", "orouter hosts list --json"))
@takes_shared_options
def list_hosts(*, shared: SharedOptions) -> None:
    """List the external hosts with their profiles."""
    hosts = read_settings(shared.config, shared.environment).config.external_hosts
    rows = [_row(name, host, profile_of(name, host, shipped_profiles())) for name, host in hosts.items()]
    if shared.as_json:
        print_json(rows)
        return
    print_table(
        ("host", "address", "profile", "lines"),
        [
            (row["host"], row["address"], f"{row['profile']}{' (guessed)' if row['guessed'] else ''}", row["lines"])
            for row in rows
        ],
        right=("lines",),
    )


@app.command(
    epilog=examples(
        "orouter hosts profile openai",
        "orouter hosts profile openai --model gpt-5.6",
        "orouter hosts profile openai --json",
    )
)
@takes_shared_options
def profile(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The host's name in the config.")],
    *,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Only lines about this model, by its name at the host."),
    ] = None,
    shared: SharedOptions,
) -> None:
    """Print the effective profile of a host.

    Each line has its origin (a shipped profile or the config) and the page that documents it.
    """
    hosts = read_settings(shared.config, shared.environment).config.external_hosts
    if name not in hosts:
        raise CommandFailed(f"no external host {name}; known: {', '.join(hosts) or 'none'}")
    found = profile_of(name, hosts[name], shipped_profiles())
    lines = [line for line in found.lines if model is None or _is_about(line, model)]
    if shared.as_json:
        print_json({**_row(name, hosts[name], found), "lines": [_line_json(line) for line in lines]})
        return
    print_note(f"{name}: profile {found.name}{', guessed from the address' if found.guessed else ''}")
    print_result("\n".join(_lines_text(lines)) or "no profile")


def _row(name: str, host: ExternalHost, found: Profile) -> dict[str, Any]:
    return {
        "host": name,
        "address": f"{host.protocol}://{host.host}:{host.port}",
        "profile": found.name,
        "guessed": found.guessed,
        "lines": len(found.lines),
    }


def _is_about(line: SourcedLine, model: str) -> bool:
    rule = line.line
    return (not rule.models or matches_any(model, rule.models)) and not matches_any(model, rule.unless)


def _line_json(line: SourcedLine) -> dict[str, Any]:
    return {
        "name": line.name,
        "defined_in": line.defined_in,
        **line.line.model_dump(mode="json", exclude_defaults=True),
    }


def _lines_text(lines: Iterable[SourcedLine]) -> Iterable[str]:
    for line in lines:
        read = f", read {line.line.read}" if line.line.read else ""
        source = f" ({line.line.source}{read})" if line.line.source else ""
        yield f"{line.name}: {models_in_words(line.line)}"
        yield f"  {words_of(line.line)}"
        yield f"  from {line.defined_in}{source}"
