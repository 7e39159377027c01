"""Query the servers of a config for their state, once, exactly as a running router would."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from ollama_router_core.config import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_server.coordination.alone import alone
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.system import SystemClock
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from ollama_router_server.upstream.targets import build_targets

__all__ = ["Sighting", "look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The result of one round; `now` and the snapshot's times are of the same clock."""

    snapshot: FleetSnapshot
    now: float


def look(config: Config, variables: Mapping[str, str]) -> Sighting:
    """Query every enabled server once; a server without an answer is down in the result, not an error."""
    with _quiet_log():
        return asyncio.run(_look(config, variables))


async def _look(config: Config, variables: Mapping[str, str]) -> Sighting:
    clock = SystemClock()
    upstream = HttptoolsUpstream()
    targets = build_targets(config, variables)
    fleet = FleetService(config=config, targets=targets, upstream=upstream, clock=clock, coordination=alone())
    try:
        await fleet.start()
        return Sighting(snapshot=fleet.snapshot, now=clock.monotonic())
    finally:
        await fleet.aclose()
        await upstream.aclose()


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Silence the router's log, whose content is in the result."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.reset_defaults()
