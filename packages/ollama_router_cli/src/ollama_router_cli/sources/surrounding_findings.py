"""Findings about a router's dependencies other than servers: the coordination store and the discovery sources."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from typing import Final

from ollama_router_cli.sources.settings_source import Settings
from ollama_router_core.config import without_password
from ollama_router_core.config.settings import CoordinationSettings
from ollama_router_core.errors import ConfigError, RouterError
from ollama_router_server.admin.doctor.finding import Finding
from ollama_router_server.fleet.discovery.discovery_loop import finders_of
from ollama_router_server.fleet.discovery.finder import Finder
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream

__all__ = ["coordination_findings", "discovery_findings"]

_FIXES: Final[Mapping[str, str]] = {
    "file": "ls -l {target}",
    "dns": "dig {target}",
    "kubernetes": "kubectl get endpointslices -l {target}; kubectl auth can-i watch endpointslices.discovery.k8s.io",
    "mdns": "avahi-browse -rt {target}",
}

_URL_FIX: Final = "coordination.url: redis://:PASSWORD@HOST:6379/0 in the config"


def coordination_findings(settings: Settings) -> Iterator[Finding]:
    """Check that the store is reachable; without it, each router falls back to its share."""
    wanted = settings.config.coordination
    if wanted.url is None:
        return
    shown = without_password(wanted.url)
    try:
        problem = asyncio.run(_ping(wanted.url, wanted))
    except ConfigError as error:
        yield Finding.error("coordination", error.message, _URL_FIX)
        return
    if problem is None:
        yield Finding.ok("coordination", f"{shown} answers")
        return
    reason = f"{shown} does not answer, so each router continues with its share of the limits: {problem}"
    yield Finding.warning("coordination", reason, f"redis-cli -u {shown} ping")


def discovery_findings(settings: Settings) -> Iterator[Finding]:
    """Query every discovery source once."""
    yield from asyncio.run(_looks(settings))


async def _ping(url: str, wanted: CoordinationSettings) -> str | None:
    try:
        from ollama_router_server.coordination.redis_store import RedisStore, StoreAway  # noqa: PLC0415 - an extra
    except ImportError:
        return "the extra redis is not installed: pip install 'ollama-router-server[redis]'"
    store = RedisStore(url, wanted, "doctor")
    async with aclosing(store):
        try:
            await store.ping()
        except StoreAway as error:
            return str(error)
    return None


async def _looks(settings: Settings) -> list[Finding]:
    async with aclosing(HttptoolsUpstream()) as upstream:
        try:
            finders = finders_of(settings.config.discovery, upstream, settings.variables)
        except ConfigError as error:
            return [Finding.error("discovery", error.message, "orouter config check")]
        return [await _look(finder) for finder in finders]


async def _look(finder: Finder) -> Finding:
    kind, _, target = finder.source.partition(":")
    fix = _FIXES[kind].format(target=target)
    subject = f"discovery {finder.source}"
    try:
        found = len(await finder.look())
    except RouterError as error:
        return Finding.warning(subject, error.message, fix)
    finally:
        finder.close()
    reason = f"servers found: {found}" if found else "no server is found there"
    if finder.lacks is not None:
        reason += f"; changes are noticed only at the next interval: {finder.lacks}"
    if found and finder.lacks is None:
        return Finding.ok(subject, reason)
    return Finding.warning(subject, reason, fix)
