"""Probe schedule and state: a server is down after three failed probes, up after two successful ones.

A failed probe is repeated after a second, and a hanging probe takes `probe_timeout`. A server that accepts connections
but stays silent is down after at most

    1.1 x health_check_interval + 3 x probe_timeout + 2 s

which is 19 s by default. Source of the counts: HAProxy's `fall 3 rise 2`.
"""

from __future__ import annotations

import zlib

from ollama_router_core.config.settings import Config

__all__ = ["FALL", "RISE", "ProbeState", "probe_interval"]

FALL, RISE = 3, 2
"""Probes in a row that must fail, or succeed, to change the state."""

_AGAIN = 1.0
"""Seconds until an unconfirmed result is checked again."""
_WHILE_DOWN = 5.0
_SPREAD = 0.1
"""Share of the interval by which probe times of servers differ."""


def probe_interval(config: Config, server: str) -> float:
    """Return seconds between probes of a healthy server, varied by name to spread the probes."""
    phase = zlib.crc32(server.encode()) / 2**31 - 1
    return config.health_check_interval * (1 + _SPREAD * phase)


class ProbeState:
    """The probe state of one server. `interval` is the seconds between probes while it is healthy.

    `up` is None before the first probe, whose result counts immediately.
    """

    __slots__ = ("_failed", "_interval", "_passed", "up")

    def __init__(self, interval: float, *, up: bool | None = None) -> None:
        self.up = up
        self._interval = interval
        self._failed = 0
        self._passed = 0

    def passed(self) -> None:
        """Count a successful probe."""
        self._failed, self._passed = 0, self._passed + 1
        if self.up is None or self._passed >= RISE:
            self.up = True

    def failed(self, *, refused: bool) -> None:
        """Count a failed probe; one refused connection suffices, as no server listens there."""
        self._failed, self._passed = self._failed + 1, 0
        if refused or not self.up or self._failed >= FALL:
            self.up = False

    @property
    def trusted(self) -> bool:
        """Whether the server is up and the last probe succeeded."""
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
