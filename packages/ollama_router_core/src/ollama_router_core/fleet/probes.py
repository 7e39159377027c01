"""When a server is probed next, and when it counts as up: down after three failed probes, up after two passed ones.

A probe that fails is repeated after a second, one that hangs takes `probe_timeout`: a server that accepts and stays
silent is out after at most

    1.1 x health_check_interval + 3 x probe_timeout + 2 s

which is 19 s by default. Source of the counts: HAProxy's `fall 3 rise 2`.
"""

from __future__ import annotations

import zlib

from ollama_router_core.config.settings import Config

__all__ = ["FALL", "RISE", "ProbeState", "probe_interval"]

FALL, RISE = 3, 2
"""Probes in a row that must fail, or pass, to change the state."""

_AGAIN = 1.0
"""Seconds until a result that is not yet believed is checked again."""
_WHILE_DOWN = 5.0
_SPREAD = 0.1
"""Share of the interval by which servers are probed apart."""


def probe_interval(config: Config, server: str) -> float:
    """Return seconds between two probes of a healthy server; it differs by name, so that probes spread out."""
    phase = zlib.crc32(server.encode()) / 2**31 - 1
    return config.health_check_interval * (1 + _SPREAD * phase)


class ProbeState:
    """One server's probes. `interval` is seconds between two of a healthy server.

    `up` is None before the first, whose result is believed as it is.
    """

    __slots__ = ("_failed", "_interval", "_passed", "up")

    def __init__(self, interval: float, *, up: bool | None = None) -> None:
        self.up = up
        self._interval = interval
        self._failed = 0
        self._passed = 0

    def passed(self) -> None:
        """Count a probe that was answered."""
        self._failed, self._passed = 0, self._passed + 1
        if self.up is None or self._passed >= RISE:
            self.up = True

    def failed(self, *, refused: bool) -> None:
        """Count a probe that was not; one refused connection is enough, as nothing listens there."""
        self._failed, self._passed = self._failed + 1, 0
        if refused or not self.up or self._failed >= FALL:
            self.up = False

    @property
    def trusted(self) -> bool:
        """Whether the server is up and the last probe was answered."""
        return bool(self.up) and not self._failed

    @property
    def lost(self) -> bool:
        """Whether the last failed probe was the third in a row."""
        return self._failed == FALL

    @property
    def pause(self) -> float:
        """Seconds until the next probe."""
        if self._failed if self.up else self._passed:
            return min(self._interval, _AGAIN)
        return self._interval if self.up else min(self._interval, _WHILE_DOWN)
