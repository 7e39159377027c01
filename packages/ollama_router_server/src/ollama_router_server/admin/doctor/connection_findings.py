"""Findings that need a connection to servers: certificate expiry and clock difference."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final

from ollama_router_core.config import Server
from ollama_router_core.errors import UpstreamError
from ollama_router_server.admin.doctor.finding import Finding
from ollama_router_server.admin.doctor.machine_findings import SOON
from ollama_router_server.services import Services
from ollama_router_server.upstream.interface import Timeouts, UpstreamRequest

__all__ = ["certificate_findings", "clock_difference", "clock_findings", "connection_findings"]

_TOLERATED: Final = 30.0  # seconds between two clocks
_PATIENCE: Final = 3.0
_AT_ONCE: Final = 16


async def connection_findings(services: Services) -> list[Finding]:
    """Check each server that is up, from the router, which may reach servers that other machines cannot."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def ask(name: str, server: Server) -> list[Finding]:
        async with turn:
            now = services.clock.wall()
            return [
                *await asyncio.to_thread(lambda: list(certificate_findings(name, server, now=now))),
                *clock_findings(name, await _ahead(services, name)),
            ]

    up = [name for name, facts in services.fleet.servers.items() if facts.up]
    found = await asyncio.gather(*(ask(name, services.config.servers[name]) for name in up))
    return [one for findings in found for one in findings]


async def _ahead(services: Services, name: str) -> float | None:
    target, sent = services.targets[name], services.clock.wall()
    request = UpstreamRequest(
        origin=target.origin,
        method="GET",
        target=target.destination.own_path("/api/version"),
        headers=target.credential,
        body=b"",
        timeouts=Timeouts(connect=_PATIENCE, first_byte=_PATIENCE, idle=_PATIENCE),
    )
    try:
        response = await services.upstream.send(request)
    except UpstreamError:
        return None  # probes report that it does not answer
    received = services.clock.wall()
    response.close()
    date = next((value.decode("latin-1") for field, value in response.headers if field.lower() == b"date"), None)
    return clock_difference(date, sent=sent, received=received)


def clock_difference(date: str | None, *, sent: float, received: float) -> float | None:
    """Return the seconds by which a server's clock is ahead, by its `Date` field; None without a valid one.

    Differences that transit time and the field's resolution of a second can explain are ignored.
    """
    try:
        server_time = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None
    if server_time > received:
        return server_time - received
    return min(0.0, server_time + 1.0 - sent)


def clock_findings(name: str, ahead: float | None) -> Iterator[Finding]:
    """Yield a warning if a clock is too far ahead, or behind if `ahead` is negative."""
    if ahead is None or abs(ahead) <= _TOLERATED:
        return
    direction = "ahead of" if ahead > 0 else "behind"
    reason = f"its clock is {abs(ahead):.0f} s {direction} this machine's; expiry times of its models are misread"
    yield Finding.warning(f"server {name}", reason, "timedatectl set-ntp true")


def certificate_findings(name: str, server: Server, *, now: float) -> Iterator[Finding]:
    """Report the remaining validity of a TLS server's certificate, or why it is rejected."""
    if server.protocol != "https":
        return
    subject = f"server {name}"
    try:
        with (
            socket.create_connection((server.host, server.port), _PATIENCE) as sock,
            ssl.create_default_context(cafile=server.ca_file).wrap_socket(sock, server_hostname=server.host) as secure,
        ):
            until = ssl.cert_time_to_seconds(str((secure.getpeercert() or {})["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        reason = f"its certificate is refused: {error.verify_message}"
        yield Finding.error(subject, reason, f"servers.{name}.ca_file: FILE in the config, or renew it on the server")
        return
    except OSError:
        return  # already reported by probes
    reason = f"its certificate is valid for {(until - now) / 86_400:.0f} more days"
    soon = until - now < SOON
    yield Finding(
        subject=subject,
        severity="warning" if soon else "ok",
        reason=reason,
        fix="renew it on the server" if soon else None,
    )
