"""Findings of a running router about itself and its servers, without requests to servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ollama_router_core.config import Server, without_password
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.routing.model_placement import differing_digests
from ollama_router_server.admin.condition import condition_of
from ollama_router_server.admin.doctor.finding import Finding
from ollama_router_server.services import Services

__all__ = ["fleet_findings", "slots_finding", "versions_finding"]


def fleet_findings(services: Services) -> Iterator[Finding]:
    """Report the router's problems, then each server's."""
    condition, snapshot = condition_of(services), services.fleet.snapshot
    for problem in condition.problems:
        yield Finding(
            subject="router",
            severity="warning" if condition.serves else "error",
            reason=problem,
            fix="orouter config check" if "config file" in problem else "orouter status",
        )
    if not condition.problems:
        yield Finding.ok("router", "takes requests")
    yield from _surroundings(services)
    for name, facts in snapshot.servers.items():
        yield from _server(services, name, facts, snapshot)
    yield from versions_finding({name: facts for name, facts in snapshot.servers.items() if facts.up})
    yield from _digests(snapshot)


def _surroundings(services: Services) -> Iterator[Finding]:
    """Report the coordination store and discovery sources that work; `condition_of` reports their failures."""
    url = services.config.coordination.url
    if url is not None and not services.coordination.away:
        yield Finding.ok("coordination", f"{without_password(url)} answers")
    for source, count in services.discovery.counts.items():
        if source in services.discovery.problems:
            continue
        subject = f"discovery {source}"
        if count:
            yield Finding.ok(subject, f"servers found: {count}")
        else:
            reason, fix = "no server is found there", "orouter doctor, on the router's machine"
            yield Finding.warning(subject, reason, fix)


def slots_finding(name: str, server: Server, learned: int | None) -> Iterator[Finding]:
    """Report how many parallel requests of one model a server was observed to serve (its OLLAMA_NUM_PARALLEL)."""
    if learned is None:
        return
    subject, configured = f"server {name}", server.num_parallel
    seen = f"served {learned} requests of one model at once (OLLAMA_NUM_PARALLEL)"
    if configured is not None and configured != learned:
        fix = f"servers.{name}.num_parallel: {learned}, or OLLAMA_NUM_PARALLEL={configured} on the server"
        yield Finding.warning(subject, f"{seen}; the config says {configured}", fix)
    else:
        yield Finding.ok(subject, seen)


def versions_finding(up: Mapping[str, ServerFacts]) -> Iterator[Finding]:
    """Report servers with different Ollama versions."""
    versions = {facts.version for facts in up.values() if facts.version}
    if len(versions) > 1:
        shown = ", ".join(f"{name} {facts.version}" for name, facts in up.items())
        reason = f"Ollama versions differ between servers, and with them features of models: {shown}"
        yield Finding.warning("servers", reason, "curl -fsSL https://ollama.com/install.sh | sh on the older ones")


def _server(services: Services, name: str, facts: ServerFacts, snapshot: FleetSnapshot) -> Iterator[Finding]:
    subject, health = f"server {name}", services.fleet.health
    now = services.clock.monotonic()
    if not facts.up:
        yield Finding.warning(subject, facts.error or "has not answered yet", "orouter status")
        return
    yield Finding.ok(subject, f"Ollama {facts.version or 'of an unknown version'}, {len(facts.installed or {})} models")
    if health.state_of(name, now) == "open":
        reason = "is suspended after repeated failures; one request will test it again"
        yield Finding.warning(subject, reason, f"orouter servers show {name}")
    if name in health.draining:
        found_by = services.running_config.found_by.get(name)
        reason = (
            "is draining"
            if found_by is None
            else f"was found by {found_by}, and gets no requests until it is undrained"
        )
        yield Finding.warning(subject, reason, f"orouter servers undrain {name}")
    yield from slots_finding(name, services.config.servers[name], snapshot.parallel.get(name))


def _digests(snapshot: FleetSnapshot) -> Iterator[Finding]:
    for model, digests in differing_digests(snapshot).items():
        shown = "; ".join(f"{', '.join(servers)} {digest[:12]}" for digest, servers in sorted(digests.items()))
        fix = f"orouter models pull {model} --to SERVER"
        yield Finding.warning("models", f"{model} differs between servers: {shown}", fix)
