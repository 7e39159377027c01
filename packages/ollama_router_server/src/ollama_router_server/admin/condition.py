"""The state of the router as a whole, in words, and whether it accepts new requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from ollama_router_server.services import Services

__all__ = ["Condition", "condition_of"]

_MOST_NAMES = 5


class Condition(Struct, frozen=True):
    """The router's status and `problems` for the operator; only `ok` and `degraded` accept new requests.

    Servers that are down while others serve are listed without changing the status, as in the original's `/health`.
    """

    status: Literal["starting", "ok", "degraded", "unavailable", "stopping"]
    problems: tuple[str, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether the router accepts new requests."""
        return self.status in {"ok", "degraded"}


def condition_of(services: Services) -> Condition:
    """Return the router's condition now."""
    if services.draining:
        return Condition("stopping", ("the router is stopping",))
    if not services.started:
        return Condition("starting", ("the router is starting",))
    found = (
        *_servers(services),
        *_database(services),
        *_coordination(services),
        *_log(services),
        *_discovery(services),
    )
    problems, statuses = tuple(text for text, _ in found), {status for _, status in found}
    worst: _Status = "unavailable" if "unavailable" in statuses else "degraded" if "degraded" in statuses else "ok"
    return Condition(worst, problems)


_Status = Literal["ok", "degraded", "unavailable"]
_Problem = tuple[str, _Status]
"""A problem, and the status that it causes."""


def _servers(services: Services) -> Iterator[_Problem]:
    servers = services.fleet.servers
    down = sorted(name for name, facts in servers.items() if not facts.up)
    if len(down) == len(servers):
        hosted = any(host.enabled for host in services.config.external_hosts.values())
        yield "no server is up" if servers else "no server is enabled", "degraded" if hosted else "unavailable"
    elif down:
        more = f" and {len(down) - _MOST_NAMES} more" if len(down) > _MOST_NAMES else ""
        yield f"{len(down)} of {len(servers)} servers are down: {', '.join(down[:_MOST_NAMES])}{more}", "ok"


def _database(services: Services) -> Iterator[_Problem]:
    authenticator = services.authenticator
    away = authenticator.away_seconds
    if away is None:
        return
    left = authenticator.grace_left()
    until = f"known users are served for {left:.0f} s more" if left > 0 else "every request is refused"
    yield f"the database has not answered for {away:.0f} s; {until}", "degraded" if left > 0 else "unavailable"


def _coordination(services: Services) -> Iterator[_Problem]:
    if services.coordination.away:
        members = services.coordination.members
        share = "all" if members == 1 else f"one part in {members}"
        yield f"the coordination store does not answer; this router uses {share} of each limit", "degraded"


def _discovery(services: Services) -> Iterator[_Problem]:
    for source, reason in sorted(services.discovery.problems.items()):
        yield f"server discovery at {source} fails: {reason}", "ok"


def _log(services: Services) -> Iterator[_Problem]:
    sink = services.sink
    if not sink.healthy:
        yield f"request log rows cannot be written: {sink.pending} pending, {sink.dropped} lost", "degraded"
    if services.running_config.problem is not None:
        yield "the config file has problems and was not applied", "degraded"
