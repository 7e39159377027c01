"""`orouter status`: is the router running, and are the servers up?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import typer

from ollama_router_cli.arguments.options import (
    ConfigOption,
    EnvironmentOption,
    JsonOption,
    TokenFileOption,
    command_group,
    examples,
)
from ollama_router_cli.rendering.streams import clean, print_json, print_note, print_result
from ollama_router_cli.rendering.tables import format_bytes, format_ms, print_table
from ollama_router_cli.sources.router import ask_router, own_trust
from ollama_router_cli.sources.servers import look
from ollama_router_cli.sources.settings import Settings, read_settings
from ollama_router_cli.sources.token import given_token
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config import Server
from ollama_router_core.fleet.snapshot import ServerFacts
from ollama_router_core.routing.model_placement import differing_digests

__all__ = ["app"]

app = command_group()


@app.command(epilog=examples("orouter status", "orouter status --config /etc/ollama-router/orouter.yml --json"))
def status(
    *,
    token_file: TokenFileOption = None,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the state of the router and its servers.

    Asks each enabled server directly; external hosts are shown as the running router sees them. With the token of a
    viewer or an admin, models that servers could not serve are listed, too. Exit code 1 if no server answers.
    """
    settings = read_settings(config, environment)
    router = _ask_router(settings)
    token = given_token(token_file)
    suspended = _ask_for_suspended(settings, token) if router["running"] and token is not None else {}
    snapshot = look(settings.config, settings.variables).snapshot
    facts, drift = snapshot.servers, differing_digests(snapshot)
    servers = {name: _server_json(server, facts.get(name)) for name, server in settings.config.servers.items()}
    hosts = router.pop("external_hosts", {})
    if as_json:
        differing = {model: {digest: list(names) for digest, names in found.items()} for model, found in drift.items()}
        print_json(
            {
                "router": router,
                "servers": servers,
                "external_hosts": hosts,
                "differing_models": differing,
                "suspended_models": suspended,
            }
        )
    else:
        _print(settings, router, servers, hosts)
        _print_suspended(suspended)
        _print_drift(drift)
    if settings.config.servers and not any(server["status"] == "healthy" for server in servers.values()):
        print_note("no server answers")
        raise typer.Exit(1)


def _ask_router(settings: Settings) -> dict[str, Any]:
    """Ask the router for its health; another program on its port does not count as one."""
    url = settings.router_url
    timeout = settings.config.model_info_timeout
    try:
        answer = httpx.get(f"{url}/health", timeout=timeout, trust_env=False, verify=own_trust(settings))
    except httpx.HTTPError as error:
        return {"url": url, "running": False, "error": str(error) or type(error).__name__}
    try:
        health = answer.json()
    except ValueError:
        health = None
    if not isinstance(health, dict) or "request_log" not in health:
        return {"url": url, "running": False, "error": "another program answers there"}
    log = health["request_log"]
    return {
        "url": url,
        "running": True,
        "status": health.get("status"),
        "problems": health.get("problems", []),
        "request_log": log,
        "external_hosts": health.get("external_hosts", {}),
    }


def _ask_for_suspended(settings: Settings, token: str) -> dict[str, dict[str, Any]]:
    """Ask the router which models it does not ask its servers for, by server."""
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(
        base_url=settings.router_url, headers=headers, trust_env=False, verify=own_trust(settings)
    ) as client:
        servers = ask_router(client, "/router/status")["servers"]
    return {name: server["suspended_models"] for name, server in servers.items() if server["suspended_models"]}


def _server_json(server: Server, facts: ServerFacts | None) -> dict[str, Any]:
    known = {
        "address": f"{server.protocol}://{server.host}:{server.port}",
        "priority": server.priority,
        "max_memory_gb": server.max_memory_gb,
    }
    if not server.enabled:
        return {"status": "disabled", **known}
    if facts is None or not facts.up:
        return {"status": "unhealthy", "error": (facts and facts.error) or "no answer", **known}
    return {
        "status": "healthy",
        "response_time_ms": round(facts.probe_ms or 0.0, 2),
        "version": facts.version,
        "models": None if facts.installed is None else sorted(one.spelling for one in facts.installed.values()),
        "loaded": [{"model": name, "bytes": row.size} for name, row in sorted(facts.loaded.items())],
        **known,
    }


def _print(settings: Settings, router: dict[str, Any], servers: dict[str, Any], hosts: dict[str, Any]) -> None:
    print_result(f"settings  {settings.source}")
    print_result(f"router    {_router_line(router)}")
    for problem in router.get("problems", ()):
        print_result(f"          {clean(str(problem))}")
    print_result()
    print_table(
        ("server", "status", "answers in", "priority", "limit", "version", "models", "loaded or error"),
        [_row(name, server) for name, server in servers.items()],
        right=("answers in", "priority", "limit", "models"),
    )
    if hosts:
        print_result()
        rows = [
            (name, host.get("status"), format_ms(host.get("response_time_ms")), host.get("error"))
            for name, host in hosts.items()
        ]
        print_table(("external host", "status", "answers in", "error"), rows, right=("answers in",))


def _print_suspended(suspended: Mapping[str, Mapping[str, Any]]) -> None:
    """Print models that servers could not serve of late, with the servers' own words."""
    if not suspended:
        return
    print_result()
    rows = [
        (model, name, _again(found["tried_again_in_seconds"]), found["error"])
        for name, models in suspended.items()
        for model, found in models.items()
    ]
    print_table(("cannot serve", "server", "tried again", "error"), rows)


def _again(seconds: float | None) -> str:
    return "not suspended yet" if seconds is None else f"in {seconds:g} s"


def _print_drift(drift: Mapping[CanonicalName, Mapping[str, tuple[str, ...]]]) -> None:
    """Print models that differ between servers under one name: answers would depend on the server."""
    if not drift:
        return
    print_result()
    rows = [
        (model, digest.removeprefix("sha256:")[:12], ", ".join(names))
        for model, found in sorted(drift.items())
        for digest, names in sorted(found.items())
    ]
    print_table(("differs by server", "digest", "on"), rows)


def _router_line(router: dict[str, Any]) -> str:
    if not router["running"]:
        return f"not running at {router['url']} ({router['error']})"
    log = router["request_log"]
    dropped = f", {log['dropped']} log rows lost" if log.get("dropped") else ""
    return f"running at {router['url']}, {router['status']}, request log {log.get('status')}{dropped}"


def _row(name: str, server: dict[str, Any]) -> tuple[object, ...]:
    limit = server["max_memory_gb"]
    loaded = ", ".join(f"{row['model']} ({format_bytes(row['bytes'])})" for row in server.get("loaded", ()))
    models = server.get("models")
    return (
        name,
        server["status"],
        format_ms(server.get("response_time_ms")),
        server["priority"],
        None if limit is None else f"{limit:g} GiB",
        server.get("version"),
        None if models is None else len(models),
        server.get("error") or loaded or None,
    )
