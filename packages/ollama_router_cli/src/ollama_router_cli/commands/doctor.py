"""`orouter doctor`: look for what is wrong, and say what mends it."""

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
from ollama_router_cli.rendering.streams import print_json
from ollama_router_cli.rendering.tables import print_table
from ollama_router_cli.sources.server_findings import router_findings, server_findings, told_findings
from ollama_router_cli.sources.settings import Settings, read_settings
from ollama_router_cli.sources.surrounding_findings import coordination_findings, discovery_findings
from ollama_router_cli.sources.token import given_token
from ollama_router_core.errors import ConfigError
from ollama_router_server.admin.doctor.finding import Finding
from ollama_router_server.admin.doctor.machine import machine_findings
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group()


@app.command(
    epilog=examples("orouter doctor", "orouter doctor --json | jq '.findings[] | select(.severity != \"ok\")'")
)
@takes_shared_options
def doctor(*, token_file: TokenFileOption = None, shared: SharedOptions) -> None:
    """Look for what is wrong: config, database, Redis, host, servers. Nothing is changed.

    Each finding has a severity, a reason and the command that mends it. Exit code 1 if one is an error. Run it on the
    router's machine, as its user. With an admin's token the running router is asked, too: how it sees its servers, and
    what it learned of them.
    """
    try:
        settings = read_settings(shared.config, shared.environment)
    except ConfigError as error:
        findings = _problems(error)
    else:
        findings = _look(settings, given_token(token_file))
    failed = any(finding.severity == "error" for finding in findings)
    if shared.as_json:
        print_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    else:
        rows = [(finding.severity, finding.subject, finding.reason, finding.mend or "") for finding in findings]
        print_table(("", "SUBJECT", "FOUND", "MEND"), rows)
    if failed:
        raise typer.Exit(1)


def _look(settings: Settings, token: str | None) -> list[Finding]:
    findings = [
        *machine_findings(settings.installation, now=SystemClock().wall()),
        *coordination_findings(settings),
        *discovery_findings(settings),
        *router_findings(settings),
        *server_findings(settings),
    ]
    if token is not None:
        findings += (one for one in told_findings(settings, token) if one not in findings)
    return findings


def _problems(error: ConfigError) -> list[Finding]:
    """A config that cannot be read is all that can be told."""
    reasons = [str(problem) for problem in error.problems] or [error.message]
    return [
        Finding(subject="config", severity="error", reason=reason, mend="orouter config check, or orouter config diff")
        for reason in reasons
    ]
