"""`orouter config check`, `show` and `reference`: the current config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import asdict

from ollama_router_cli.arguments.options import JsonOption, SharedOptions, command_group, examples, takes_shared_options
from ollama_router_cli.rendering.output import print_json, print_note, print_result
from ollama_router_cli.sources.settings_source import read_settings
from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config import (
    Config,
    changed_paths,
    dump_config,
    needs_restart,
    redacted,
    render_commented,
    render_reference,
    settings_reference,
)
from ollama_router_core.errors import ConfigError, amount
from ollama_router_core.outbound.host_profiles import with_guessed_profiles
from ollama_router_server.admin.doctor.config_warnings import config_warnings

__all__ = ["app"]

app = command_group("Check, show and explain the config; go back to an earlier one.")


_EVERY_PATH = (
    "the Rails application forwarded every path, the router only those that it knows; `forward_unknown: [/api/...,"
    " /v1/...]` forwards the others as well, and gives users access to whatever servers do with them"
)

AgainstOption = Annotated[
    Path | None, typer.Option("--against", metavar="FILE", help="Also report differences from this config.")
]


@app.command(
    epilog=examples(
        "orouter config check",
        "orouter config check --config new.yml --environment staging",
        "orouter config check --config new.yml --against /etc/ollama-router/orouter.yml",
    )
)
@takes_shared_options
def check(*, against: AgainstOption = None, shared: SharedOptions) -> None:
    """Report every problem in the config with its line.

    Exit code 1 if there is any.
    """
    try:
        settings = read_settings(shared.config, shared.environment)
    except ConfigError as error:
        if not shared.as_json:
            raise
        print_json({"ok": False, "problems": _problems_json(error)})
        raise typer.Exit(1) from None
    found: dict[str, Any] = {
        "ok": True,
        "problems": [],
        "warnings": config_warnings(settings.installation),
        "hints": _hints(settings.config),
        "source": settings.source,
        "servers": len(settings.config.servers),
        "external_hosts": len(settings.config.external_hosts),
    }
    if against is not None:
        changed = changed_paths(read_settings(against, shared.environment).config, settings.config)
        found |= {"changed": list(changed), "needs_restart": list(needs_restart(changed))}
    if shared.as_json:
        print_json(found)
    else:
        _print_found(found, against)


def _print_found(found: Mapping[str, Any], against: Path | None) -> None:
    for warning in found["warnings"]:
        print_note(f"warning: {warning}")
    for hint in found["hints"]:
        print_note(f"hint: {hint}")
    counts = f"{amount(found['servers'], 'server')}, {amount(found['external_hosts'], 'external host')}"
    print_result(f"{found['source']}: no problems; {counts}")
    if against is not None:
        print_result(f"differs from {against} in: {', '.join(found['changed']) or 'nothing'}")
        if found["needs_restart"]:
            print_result(f"takes effect after a restart: {', '.join(found['needs_restart'])}")


@app.command(epilog=examples("orouter config show", "orouter config show --environment development --json"))
@takes_shared_options
def show(*, shared: SharedOptions) -> None:
    """Print the settings in effect, defaults included.

    The output is YAML that can be used as a config; passwords are hidden.
    """
    settings = read_settings(shared.config, shared.environment)
    shown, guessed = with_guessed_profiles(redacted(settings.config), shipped_profiles())
    if shared.as_json:
        print_json(shown.model_dump(mode="json", by_alias=True))
        return
    print_result(f"# {settings.source}")
    for name, profile in guessed.items():
        print_result(f"# external_hosts.{name}.profile: {profile}, guessed from the address")
    print_result(dump_config(shown).rstrip("\n"))


@app.command(
    epilog=examples(
        "orouter config reference",
        "orouter config reference | grep -B3 max_body",
        "orouter config reference --markdown",
    )
)
def reference(
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table instead of YAML.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print every setting with its meaning, type and default.

    The output is commented YAML to copy from.
    """
    if as_json:
        print_json([asdict(setting) for setting in settings_reference()])
    else:
        print_result((render_reference() if markdown else render_commented()).rstrip("\n"))


def _hints(config: Config) -> list[str]:
    """Say what a Rails application's file, whose destinations have a `name`, lacks for the old behaviour."""
    names = [one.name for one in config.servers.values()] + [one.name for one in config.external_hosts.values()]
    return [_EVERY_PATH] if any(names) and not config.forward_unknown else []


def _problems_json(error: ConfigError) -> list[dict[str, object]]:
    if not error.problems:
        return [{"line": None, "path": "", "message": error.message}]
    return [{key: getattr(problem, key, None) for key in ("line", "path", "message")} for problem in error.problems]
