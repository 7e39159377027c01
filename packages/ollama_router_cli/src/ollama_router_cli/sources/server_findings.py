"""Findings from the servers and from the running router."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from ollama_router_cli.sources.router import ask_router, client_at, own_trust
from ollama_router_cli.sources.settings_source import Settings
from ollama_router_cli.sources.sightings import look
from ollama_router_core.config import Server
from ollama_router_core.fleet.snapshot import ServerFacts
from ollama_router_server.admin.doctor.connection_findings import certificate_findings, clock_difference, clock_findings
from ollama_router_server.admin.doctor.finding import Finding, Severity
from ollama_router_server.admin.doctor.fleet_findings import versions_finding
from ollama_router_server.admin.doctor.machine_findings import LOOPBACK
from ollama_router_server.system import SystemClock

__all__ = ["reported_findings", "router_findings", "server_findings"]

_PATIENCE = 3.0


def server_findings(settings: Settings) -> Iterator[Finding]:
    """Query each server as a router does: whether it answers, its version, its models, its clock."""
    servers = {name: server for name, server in settings.config.servers.items() if server.enabled}
    facts = look(settings.config, settings.variables).snapshot.servers
    up = {name: facts[name] for name in servers if facts[name].up}
    for name, server in servers.items():
        yield _reachable(name, server, facts[name], alone=not up)
        yield from certificate_findings(name, server, now=SystemClock().wall())
    for name in up:
        yield from _clock(name, servers[name])
    yield from versions_finding(up)


def router_findings(settings: Settings) -> Iterator[Finding]:
    """Query the running router: whether it accepts requests, and its problems, including its store's."""
    url = settings.router_url
    try:
        with httpx.Client(timeout=_PATIENCE, verify=own_trust(settings), trust_env=False) as client:
            ready = client.get(f"{url}/readyz")
            problems = client.get(f"{url}/health").json()["problems"] or (
                [] if ready.is_success else [ready.text[:200]]
            )
    except httpx.HTTPError as error:
        yield Finding.warning("router", f"no router answers at {url} ({type(error).__name__})", "orouter serve")
        return
    except (ValueError, KeyError, TypeError):
        port = settings.config.proxy_port
        reason = f"another program, not the router, answers at {url}"
        fix = f"ss -ltnp 'sport = :{port}' shows which; stop it, or set another proxy_port"
        yield Finding.error("router", reason, fix)
        return
    if ready.is_success and not problems:
        yield Finding.ok("router", f"accepts requests at {url}")
    severity: Severity = "warning" if ready.is_success else "error"
    for problem in problems:
        yield Finding(subject="router", severity=severity, reason=f"{url}: {problem}", fix="orouter status")


def reported_findings(settings: Settings, token: str) -> Iterator[Finding]:
    """Query the running router for its own findings, including the observed state of its servers.

    Raises:
        CommandFailed: the router does not answer, or the token is not an admin's.
    """
    with client_at(settings.router_url, token, own_trust(settings)) as client:
        findings = ask_router(client, "/router/doctor")["findings"]
    for one in findings:
        yield Finding(**one)


def _reachable(name: str, server: Server, facts: ServerFacts, *, alone: bool) -> Finding:
    subject, where = f"server {name}", f"{server.host}:{server.port}"
    if not facts.up:
        reason = f"{where}: {facts.error or 'no answer'}"
        fix = f"curl {_address(server)}/api/version; on the server: OLLAMA_HOST=0.0.0.0 and systemctl restart ollama"
        if server.host in LOOPBACK:
            fix = "ollama serve, or: systemctl start ollama"
        if facts.error is not None and facts.error.endswith("is this Ollama?"):
            fix = f"servers.{name}.port in the config; what answers there: ss -ltnp sport = :{server.port}"
        return Finding(subject=subject, severity="error" if alone else "warning", reason=reason, fix=fix)
    models = len(facts.installed or {})
    reason = (
        f"{where}: Ollama {facts.version or 'of an unknown version'}, {models} models, {facts.probe_ms or 0:.0f} ms"
    )
    if facts.installed is None:
        return Finding.warning(subject, f"{where} does not report its models", "orouter status")
    if not models:
        return Finding.warning(subject, f"{where} has no models", f"orouter models pull MODEL --to {name}")
    return Finding.ok(subject, reason)


def _clock(name: str, server: Server) -> Iterator[Finding]:
    clock = SystemClock()
    sent = clock.wall()
    try:
        answer = httpx.get(f"{_address(server)}/api/version", timeout=_PATIENCE, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL):
        return  # reached by other means, such as a custom certificate authority
    yield from clock_findings(name, clock_difference(answer.headers.get("date"), sent=sent, received=clock.wall()))


def _address(server: Server) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{server.protocol}://{host}:{server.port}{server.path_prefix or ''}"
