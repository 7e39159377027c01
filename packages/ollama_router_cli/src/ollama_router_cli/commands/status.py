"""`orouter status`: is the router running, and are the servers up?"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import httpx
import typer

from ollama_router_cli.arguments.options import (
    SharedOptions,
    TokenFileOption,
    command_group,
    examples,
    takes_shared_options,
)
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.output import clean, print_json, print_note, print_result
from ollama_router_cli.rendering.tables import format_bytes, format_ms, print_table
from ollama_router_cli.sources.router import ask_router, client_at, own_trust, router_url
from ollama_router_cli.sources.settings_source import Settings, listening_settings, read_settings
from ollama_router_cli.sources.sightings import look
from ollama_router_cli.sources.token import given_token
from ollama_router_core.config import Server
from ollama_router_core.errors import ConfigError
from ollama_router_core.fleet.snapshot import ServerFacts
from ollama_router_core.routing.model_placement import differing_digests

__all__ = ["app"]

app = command_group()

_PATIENCE = 10.0
"""Timeout of a remote router, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """The data to show, by name: servers, external hosts, models that differ by digest, suspended models."""

    source: str
    router: dict[str, Any]
    servers: dict[str, dict[str, Any]]
    external_hosts: dict[str, Any]
    differing_models: dict[str, dict[str, list[str]]]
    suspended_models: dict[str, dict[str, Any]]

    @property
    def is_bad(self) -> bool:
        """Whether there are servers and none answers."""
        return bool(self.servers) and all(server["status"] != "healthy" for server in self.servers.values())

    def to_json(self) -> dict[str, Any]:
        """Return all fields but `source`."""
        named = asdict(self)
        del named["source"]
        return named


@app.command(
    epilog=examples(
        "orouter status",
        "orouter status --config /etc/ollama-router/orouter.yml --json",
        "orouter status --url https://llm.example.org --token-file admin.token",
    )
)
@takes_shared_options
def status(
    *,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Show what the router at this address reports; do not query servers from this machine."
        ),
    ] = None,
    token_file: TokenFileOption = None,
    shared: SharedOptions,
) -> None:
    """Show the state of the router and its servers.

    Asks each enabled server directly; external hosts are shown as the running router sees them. With the token of a
    viewer or an admin, also lists models that servers could not serve. With --url and such a token, shows servers as
    that router sees them. Problems of the config file are shown beside the state of the running router, which keeps the
    previous config. Exit code 1 if no server answers.
    """
    token = given_token(token_file)
    problem: ConfigError | None = None
    if url is not None:
        report = _ask(router_url(url), token)
    else:
        try:
            report = _look(read_settings(shared.config, shared.environment), token)
        except ConfigError as error:
            report, problem = _ask_despite(error, listening_settings(shared.config, shared.environment), token), error
    if shared.as_json:
        print_json(report.to_json())
    else:
        _print(report)
        _print_suspended(report.suspended_models)
        _print_drift(report.differing_models)
    if url is not None and not report.router["running"]:
        raise CommandFailed(f"no router answers at {report.router['url']}: {report.router['error']}")
    if problem is not None:
        raise problem
    if report.is_bad:
        print_note("no server answers")
        raise typer.Exit(1)


def _look(settings: Settings, token: str | None) -> _Report:
    """Query the router of this config, and its servers."""
    trust, url = own_trust(settings), settings.router_url
    router = _ask_router(url, settings.config.model_info_timeout, trust)
    known = _ask_for_status(url, token, trust) if router["running"] and token is not None else {"servers": {}}
    snapshot = look(settings.config, settings.variables).snapshot
    return _Report(
        source=settings.source,
        router=router,
        servers={
            name: _server_json(server, snapshot.servers.get(name)) for name, server in settings.config.servers.items()
        },
        external_hosts=router.pop("external_hosts", {}),
        differing_models={
            str(model): {digest: list(names) for digest, names in found.items()}
            for model, found in differing_digests(snapshot).items()
        },
        suspended_models=_suspended(known),
    )


def _ask_despite(problem: ConfigError, listening: Settings, token: str | None) -> _Report:
    """Query the router of an invalid config file; if it runs, it uses the previous config.

    Raises:
        ConfigError: no router runs; the error is `problem`.
    """
    report = _ask(listening.router_url, token, own_trust(listening))
    if not report.router["running"]:
        raise problem
    return replace(report, source=f"those before {listening.path} had problems: as the router says")


def _ask(url: str, token: str | None, trust: ssl.SSLContext | bool = True) -> _Report:
    """Query only a router, not its servers."""
    router = _ask_router(url, _PATIENCE, trust)
    known: dict[str, Any] = {"servers": {}, "differing_models": {}}
    if router["running"] and token is not None:
        known = _ask_for_status(url, token, trust)
    return _Report(
        source="none: as the router says" if token is not None else "none; servers are shown with a token",
        router=router,
        servers={name: _reported_server(server) for name, server in known["servers"].items()},
        external_hosts=router.pop("external_hosts", {}),
        differing_models=known["differing_models"],
        suspended_models=_suspended(known),
    )


def _ask_router(url: str, timeout: float, trust: ssl.SSLContext | bool) -> dict[str, Any]:
    """Query the router's health; another program on its port does not count."""
    try:
        answer = httpx.get(f"{url}/health", timeout=timeout, trust_env=False, verify=trust)
    except httpx.HTTPError as error:
        return {"url": url, "running": False, "error": str(error) or type(error).__name__}
    try:
        health = answer.json()
    except ValueError:
        health = None
    if not isinstance(health, dict) or "request_log" not in health:
        return {"url": url, "running": False, "error": "another program answers there"}
    return {
        "url": url,
        "running": True,
        "status": health.get("status"),
        "problems": health.get("problems", []),
        "request_log": health["request_log"],
        "external_hosts": health.get("external_hosts", {}),
    }


def _ask_for_status(url: str, token: str, trust: ssl.SSLContext | bool) -> dict[str, Any]:
    """Query the router's known state of its servers."""
    with client_at(url, token, trust) as client:
        return ask_router(client, "/router/status")


def _suspended(known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the suspended models, by server."""
    servers = known["servers"].items()
    return {name: server["suspended_models"] for name, server in servers if server["suspended_models"]}


def _reported_server(server: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a server from `/router/status`, which contains neither its address nor its settings."""
    unknown = {"address": None, "priority": None, "max_memory_gb": None}
    if not server["up"]:
        return {"status": "unhealthy", "error": server["error"] or "no answer", **unknown}
    return {
        "status": "healthy",
        "response_time_ms": round(server["probe_ms"] or 0.0, 2),
        "version": server["version"],
        "models": server["models"],
        "loaded": [{"model": row["model"], "bytes": row["bytes"]} for row in server["loaded"]],
        **unknown,
    }


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


def _print(report: _Report) -> None:
    print_result(f"settings  {report.source}")
    print_result(f"router    {_router_line(report.router)}")
    for problem in report.router.get("problems", ()):
        print_result(f"          {clean(str(problem))}")
    print_result()
    print_table(
        ("server", "status", "answers in", "priority", "limit", "version", "models", "loaded or error"),
        [_row(name, server) for name, server in report.servers.items()],
        right=("answers in", "priority", "limit", "models"),
    )
    if hosts := report.external_hosts:
        print_result()
        rows = [
            (name, host.get("status"), format_ms(host.get("response_time_ms")), host.get("error"))
            for name, host in hosts.items()
        ]
        print_table(("external host", "status", "answers in", "error"), rows, right=("answers in",))


def _print_suspended(suspended: Mapping[str, Mapping[str, Any]]) -> None:
    """Print models that servers could not serve recently, with the servers' own messages."""
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


def _print_drift(drift: Mapping[str, Mapping[str, list[str]]]) -> None:
    """Print models with different digests under one name: responses depend on the server."""
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
