"""`orouter doctor`: problems, and the commands that fix them."""

from __future__ import annotations

import typer
from msgspec.structs import asdict

from ollama_router_cli.arguments.options import (
    SharedOptions,
    TokenFileOption,
    command_group,
    examples,
    takes_shared_options,
)
from ollama_router_cli.rendering.output import print_json
from ollama_router_cli.rendering.tables import print_table
from ollama_router_cli.sources.server_findings import reported_findings, router_findings, server_findings
from ollama_router_cli.sources.settings_source import Settings, read_settings
from ollama_router_cli.sources.surrounding_findings import coordination_findings, discovery_findings
from ollama_router_cli.sources.token import given_token
from ollama_router_core.errors import ConfigError
from ollama_router_server.admin.doctor.finding import Finding
from ollama_router_server.admin.doctor.machine_findings import machine_findings
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group()


@app.command(
    epilog=examples("orouter doctor", "orouter doctor --json | jq '.findings[] | select(.severity != \"ok\")'")
)
@takes_shared_options
def doctor(*, token_file: TokenFileOption = None, shared: SharedOptions) -> None:
    """Find problems: config, database, Redis, host, servers. Nothing is changed.

    Each finding has a severity, a reason and the command that fixes it. Exit code 1 if one is an error. Run it on the
    router's machine, as its user. With an admin's token it also reports how the
    running router sees its servers, and what it has learned about them.
    """
    token, reported = given_token(token_file), list[Finding]()
    try:
        settings = read_settings(shared.config, shared.environment)
    except ConfigError as error:
        found = _problems(error)
    else:
        found = _look(settings)
        if token is not None:
            reported = [one for one in reported_findings(settings, token) if one not in found]
    failed = any(finding.severity == "error" for finding in (*found, *reported))
    if shared.as_json:
        print_json({"ok": not failed, "findings": [asdict(finding) for finding in (*found, *reported)]})
    else:
        _print(found, reported)
    if failed:
        raise typer.Exit(1)


def _print(found: list[Finding], reported: list[Finding]) -> None:
    """Print a table; the running router's findings are below those made here."""
    rows = [(one.severity, one.subject, "here", one.reason, one.fix or "") for one in found]
    rows += [(one.severity, one.subject, "router", one.reason, one.fix or "") for one in reported]
    if reported:
        print_table(("", "SUBJECT", "FROM", "FOUND", "FIX"), rows)
    else:
        print_table(("", "SUBJECT", "FOUND", "FIX"), [(*row[:2], *row[3:]) for row in rows])


def _look(settings: Settings) -> list[Finding]:
    return [
        *machine_findings(settings.installation, now=SystemClock().wall()),
        *coordination_findings(settings),
        *discovery_findings(settings),
        *router_findings(settings),
        *server_findings(settings),
    ]


def _problems(error: ConfigError) -> list[Finding]:
    """Return the problems of an unreadable config, the only findings possible then."""
    reasons = [str(problem) for problem in error.problems] or [error.message]
    return [Finding.error("config", reason, "orouter config check, or orouter config diff") for reason in reasons]
