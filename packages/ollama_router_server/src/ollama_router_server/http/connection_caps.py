"""How many connections are open, in total and of one address, and which is closed for a new one."""

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
    """What is counted."""

    def close(self) -> None:
        """Close once the client has taken what was written."""


class ConnectionCaps:
    """The open connections of one front, those without a request in the order in which they became idle.

    A connection with a request is never closed for another. Addresses of trusted proxies have no cap of their own:
    many clients come from them.

    Args:
        exempt: tells whether an address is a trusted proxy's.
    """

    __slots__ = ("_exempt", "_idle", "_idle_of", "_of", "_open", "_quota")

    def __init__(self, exempt: Callable[[str], bool] = lambda _: False) -> None:
        self._exempt = exempt
        self._open: dict[Connection, str] = {}
        self._of: Counter[str] = Counter()
        self._idle: dict[Connection, None] = {}  # the idlest first
        self._idle_of: dict[str, dict[Connection, None]] = {}
        self._quota = RefusalQuota(of_one=1, of_all=10)

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: Connection, peer: str, *, total: int, of_one: int, now: float) -> None:
        """Count a new connection, and close one if it is one too many: the new one if no other is idle.

        Over the address's cap that is the idlest of the address, over the total the idlest of all.
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
        """Note that a request has begun on it."""
        self._idle.pop(connection, None)
        address = self._open.get(connection)
        of_address = None if address is None else self._idle_of.get(address)
        if address is None or of_address is None:
            return
        of_address.pop(connection, None)
        if not of_address:
            del self._idle_of[address]

    def idle(self, connection: Connection) -> None:
        """Note that it waits for a request, from now."""
        address = self._open.get(connection)
        if address is not None:
            self._idle[connection] = None
            self._idle_of.setdefault(address, {})[connection] = None

    def closed(self, connection: Connection) -> None:
        """Forget a connection that is gone, or on its way."""
        self.busy(connection)
        address = self._open.pop(connection, None)
        if address is not None:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]


def _origin(peer: str) -> str:
    """Return the address that connections are counted under: of IPv6 the /64, which one client has whole."""
    address = read_address(peer)
    if isinstance(address, IPv6Address):
        return ":".join(address.exploded.split(":")[:4]) + "::/64"
    return peer if address is None else str(address)
