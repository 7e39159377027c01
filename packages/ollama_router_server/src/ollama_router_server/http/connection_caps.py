"""Caps on open connections, in total and per address; a connection over a cap closes an idle one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Protocol

import structlog

from ollama_router_core.access.addresses import read_address
from ollama_router_core.records.refusal_quota import RefusalQuota

__all__ = ["ConnectionCaps"]

_log = structlog.get_logger("http")


class Connection(Protocol):
    """A counted connection."""

    def close(self) -> None:
        """Close once the client has read what was written."""


class ConnectionCaps:
    """The open connections of one front; idle ones in the order in which they became idle.

    A connection with a request in flight is never closed for another. Addresses of trusted proxies have no cap, since
    many clients share them.

    Args:
        exempt: return whether an address belongs to a trusted proxy.
    """

    __slots__ = ("_exempt", "_idle", "_idle_of", "_of", "_open", "_quota")

    def __init__(self, exempt: Callable[[str], bool] = lambda _: False) -> None:
        self._exempt = exempt
        self._open: dict[Connection, str] = {}
        self._of: Counter[str] = Counter()
        self._idle: dict[Connection, None] = {}  # idle longest first
        self._idle_of: dict[str, dict[Connection, None]] = {}
        self._quota = RefusalQuota(of_one=1, of_all=10)

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: Connection, peer: str, *, total: int, of_one: int, now: float) -> None:
        """Count a new connection; over a cap, close the longest idle one, or the new one if no other is idle.

        Over the cap per address, an idle connection of that address is closed; over the total, one of any address.
        """
        origin = _origin(peer)
        self._open[connection] = origin
        self._of[origin] += 1
        shed = None
        if self._of[origin] > of_one and not self._exempt(peer):
            shed = next(iter(self._idle_of.get(origin, ())), connection)
        elif len(self._open) > total:
            shed = next(iter(self._idle), connection)
        self.idle(connection)
        if shed is not None:
            self._shed(shed, now)

    def _shed(self, connection: Connection, now: float) -> None:
        origin = self._open[connection]
        self.closed(connection)
        connection.close()
        for other, count in self._quota.left_out(now).items():
            _log.warning("connections_shed", client=other, count=count)
        if self._quota.take(origin, now):
            _log.warning("connections_shed", client=origin, count=1, open=len(self._open))

    def busy(self, connection: Connection) -> None:
        """Mark a connection as having a request in flight."""
        self._idle.pop(connection, None)
        address = self._open.get(connection)
        of_address = None if address is None else self._idle_of.get(address)
        if address is None or of_address is None:
            return
        of_address.pop(connection, None)
        if not of_address:
            del self._idle_of[address]

    def idle(self, connection: Connection) -> None:
        """Mark a connection as idle from now on."""
        address = self._open.get(connection)
        if address is not None:
            self._idle[connection] = None
            self._idle_of.setdefault(address, {})[connection] = None

    def closed(self, connection: Connection) -> None:
        """Remove a connection that is closed or closing."""
        self.busy(connection)
        address = self._open.pop(connection, None)
        if address is not None:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]


def _origin(peer: str) -> str:
    """Return the key that connections are counted under; for IPv6 the /64, since one client usually has all of it."""
    address = read_address(peer)
    if isinstance(address, IPv6Address):
        return ":".join(address.exploded.split(":")[:4]) + "::/64"
    return peer if address is None else str(address)
